"""Shows an evaluation on the terminal: while it runs, and what came out."""

import torch
from rich.console import Console
from rich.table import Table

from rfwp.models.actor_critic import ActorCritic
from rfwp.runners import machine
from rfwp.runners.config import TrainConfig
from rfwp.runners.evaluate import Evaluation, Score, evaluate
from rfwp.runners.play import Policy


def run_evaluation(
    agent: ActorCritic,
    config: TrainConfig,
    episodes: int,
    agent_steps: int,
    console: Console,
    policy: Policy = "sampled",
    score: Score = "game",
    seed: int = 0,
) -> Evaluation:
    """Plays with all cores of the machine; arguments as in `evaluate`."""
    torch.set_num_threads(machine.learner_threads())  # the emulator's own threads take the rest
    with console.status(f"playing {episodes} {'games' if score == 'game' else 'lives'} ...") as status:
        return evaluate(
            agent,
            config.env,
            episodes,
            policy,
            score,
            seed,
            agent_steps,
            machine.cores(),
            lambda finished: status.update(f"{finished} of {episodes} finished"),
        )


def print_evaluation(result: Evaluation, console: Console) -> None:
    """The scores as a table, with the protocol that they were made by."""
    facts = result.summary()
    unit = "full games, all lives" if result.score == "game" else "single lives: not comparable with full games"
    table = Table(title=f"{result.game}: {len(result.games)} {unit}", title_justify="left", show_header=False)
    for name in ("mean", "median", "standard_deviation", "min", "max"):
        table.add_row(name.replace("_", " "), f"{facts[name]:,.2f}")
    if facts["human_normalised"] is not None and result.score == "game":
        table.add_row("human-normalised", f"{facts['human_normalised']:,.1f} %")
    table.add_row("mean length", f"{facts['length_mean']:,.0f} agent steps")
    table.add_row(
        "protocol",
        ", ".join(filter(None, [result.protocol, f"{result.policy} actions", "raw scores", f"seed {result.seed}"])),
    )
    table.add_row("trained for", f"{result.agent_steps:,} agent steps ({result.frames:,} frames)")
    console.print(table)
