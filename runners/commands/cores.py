"""`rfwp cores`: lists every memory core, its size in the `paper` agent for Pong, and a description."""

import json
from collections.abc import Sequence
from typing import Any

import torch
from rich.table import Table

from rfwp.runners.build import build_agent
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.settings import components
from rfwp.runners.settings.config import agent_config
from rfwp.runners.settings.options import config_from_words
from rfwp.runners.settings.parsing import Parser, parse


def run(argv: Sequence[str]) -> int:
    """Run `rfwp cores` with these words; return the exit code."""
    parser = Parser("rfwp cores", "List the memory cores.")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")
    values = parse(parser, argv)
    rows = [_core_facts(name) for name in components.names("core")]
    if values.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table("core", "parameters", "state floats", "description")
    for row in rows:
        table.add_row(row["name"], f"{row['parameters']:,}", f"{row['state_floats']:,}", row["description"])
    Terminal().print(table)
    return 0


def _core_facts(name: str) -> dict[str, Any]:
    words = ["--preset=paper", "--env=atari", "--env.game=pong", f"--core={name}", "--device=cpu"]
    agent = build_agent(agent_config(config_from_words(words)), torch.device("cpu"))
    return {
        "name": name,
        "parameters": sum(parameter.numel() for parameter in agent.parameters()),
        "state_floats": sum(leaf.numel() for leaf in agent.initial_state(1)),
        "description": components.description("core", name),
    }
