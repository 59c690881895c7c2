"""Measures what fast weights carry before any training, by core and feature map, and writes measured.md.

    python measure.py

Needs rfwp.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from rfwp.models.residual_stack import ResidualStack
from rfwp.runners.settings import components

SEEDS, STEPS, BATCH, INPUT_SIZE = 5, 32, 64, 128
CHANGED, LATER = 16, 8  # the step whose input is replaced, and how many steps later its effect is measured
COLUMNS = (
    "core",
    "feature map",
    "cosine",
    "read / stream",
    "effect after 8 steps",
    "gradient, memory",
    "gradient, W_o",
)


def rms(x: Tensor) -> Tensor:
    return x.square().mean().sqrt()


def cosine(vectors: Tensor) -> Tensor:
    """Return the mean cosine of vectors [..., size] with those a third of the way on, which had other inputs."""
    unit = normalize(vectors.flatten(0, -2), dim=-1)
    return (unit * unit.roll(len(unit) // 3, 0)).sum(-1).mean()


def measure(core: ResidualStack) -> Tensor:
    """Return a row's numbers, for normally distributed inputs."""
    inputs, first = torch.randn(STEPS, BATCH, INPUT_SIZE), torch.zeros(STEPS, BATCH, dtype=torch.bool)
    streams: list[Tensor] = []
    reads: list[Tensor] = []
    cosines: list[Tensor] = []

    def recorded(features):
        def apply(z: Tensor) -> Tensor:
            address = features(z)
            cosines.append(cosine(address))
            return address

        return apply

    for block in core.blocks:
        block.memory_norm.register_forward_hook(lambda _, given, result: streams.append(rms(given[0])))
        block.output.register_forward_hook(lambda _, given, result: reads.append(rms(result)))
        block.memory.features = recorded(block.memory.features)
    outputs, _ = core(inputs, core.initial_state(BATCH), first)
    row = [torch.stack(cosines).mean(), (torch.stack(reads) / torch.stack(streams)).mean()]

    changed = inputs.clone()
    changed[CHANGED] = torch.randn(BATCH, INPUT_SIZE)
    effect = core(changed, core.initial_state(BATCH), first)[0] - outputs
    row.append(rms(effect[CHANGED + LATER]) / rms(effect[CHANGED]))

    matrices = {name: weight for name, weight in core.blocks.named_parameters() if weight.dim() > 1}
    gradients = torch.autograd.grad((outputs * torch.randn_like(outputs)).sum(), list(matrices.values()))
    parts: dict[str, list[Tensor]] = {"memory": [], "output": [], "feedforward": []}
    for name, gradient in zip(matrices, gradients, strict=True):
        parts[name.split(".")[1]].append(gradient.flatten())
    memory, output, feedforward = (rms(torch.cat(part)) for part in parts.values())
    return torch.stack([*row, memory / feedforward, output / feedforward]).detach()


def main() -> None:
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for name in components.names("core"):
        config = components.config_class("core", name)
        for feature_map in (config.feature_map, "l2") if hasattr(config, "feature_map") else ():
            rows = []
            for seed in range(SEEDS):
                torch.manual_seed(seed)
                rows.append(measure(config(feature_map=feature_map).build(INPUT_SIZE)))
            similarity, *others = torch.stack(rows).mean(0).tolist()
            numbers = (f"{abs(similarity):.2f}", *(f"{number:.2g}" for number in others))
            lines.append((f"`{name}`", feature_map, *numbers))
            print(*lines[-1])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    (Path(__file__).parent / "measured.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
