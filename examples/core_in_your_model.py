"""Use a memory core inside your own model; on a GPU it runs its fused kernel."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rfwp.models.cores import rdn

SYMBOLS, DELAY, STEPS, BATCH = 4, 2, 16, 16


class Recaller(nn.Module):
    """Predicts, at each step of a sequence, the symbol it read DELAY steps earlier."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, 32)
        self.core = rdn.Config(hidden_size=32, num_layers=1, num_heads=2).build(input_size=32)
        self.output = nn.Linear(self.core.output_size, SYMBOLS)

    def forward(self, symbol: Tensor) -> Tensor:
        """Predict the symbols: int64 [T, B] -> logits [T, B, SYMBOLS]."""
        first = torch.zeros_like(symbol, dtype=torch.bool)  # True where a new sequence starts
        memory, _ = self.core(self.embedding(symbol), self.core.initial_state(symbol.shape[1]), first)
        return self.output(memory)


def main() -> None:
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = Recaller().to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    for update in range(1, 301):
        symbol = torch.randint(SYMBOLS, (STEPS, BATCH), device=device)
        logits = model(symbol)[DELAY:]
        loss = F.cross_entropy(logits.flatten(0, 1), symbol[:-DELAY].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if update % 100 == 0:
            correct = (logits.argmax(-1) == symbol[:-DELAY]).float().mean()
            print(f"update {update}: loss {loss.item():.2f}, {correct.item():.0%} correct")


if __name__ == "__main__":
    main()
