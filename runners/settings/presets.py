"""The presets: named settings to start from."""

import dataclasses
from typing import Any, NamedTuple

from rfwp.runners.settings import components

Values = dict[str, Any]

DEFAULT_ENV = "atari"
DEFAULT_CORE = "rdn"

# In all presets, a core takes the settings of "core" that it has; the sections under its own name come on top.

# The published hyperparameters: the defaults of the settings classes, plus these names.
_PAPER: Values = {"encoder": {"name": "impala"}, "env": {"name": DEFAULT_ENV}}
# The same, but for initial weights that learn early: with the published ones, an agent has not begun after 1,500
# updates (results/gpu).
_GPU: Values = {**_PAPER, "initialisation": "orthogonal"}
# One agent for six games of ProcGen, as Irie et al. (2022) trained it.
_PAPER_PROCGEN: Values = {
    **_PAPER,
    "env": {"name": "procgen", "game": "bigfish+fruitbot+maze+leaper+plunder+starpilot"},
    "core": {"num_heads": 8},
    "total_steps": 300_000_000,
}
# Learns quickly in wall-clock time on two CPU cores; results/first-light has a few measurements.
_CPU: Values = {
    "env": {"name": DEFAULT_ENV},
    "encoder": {"name": "shallow"},
    "learner": {"unroll_length": 20, "batch_size": 16, "learning_rate": 3e-4},
    "actors": {"envs": 40},
    "total_steps": 5_000_000,
    "initialisation": "orthogonal",
}
# Small and quick: learns a toy task in a minute or two. Keys of unit length make every core learn, and sooner:
# docs/feature-maps.md. Learning rates are the better of two for each core: results/memory-tasks.
_TOY: Values = {
    "env": {"name": "recall"},
    "encoder": {"name": "flat"},
    "core": {"feature_map": "l2"},
    "objective": {"discount": 0.9},
    "learner": {"unroll_length": 16, "batch_size": 16, "learning_rate": 5e-4},
    "actors": {"envs": 32},
    "total_steps": 500_000,
    "initialisation": "orthogonal",
    **{core: {"learner": {"learning_rate": 2e-3}} for core in ("lstm", "gru", "transformer", "rdn")},
}


# For memory benchmarks in Gymnasium. The encoder reads images, if there are any.
_MEMORY: Values = {
    "env": {"name": "gym"},
    "encoder": {"name": "shallow", "size": 128},
    "core": {"feature_map": "l2"},
    "objective": {"discount": 0.95},
    "learner": {"unroll_length": 32, "batch_size": 8, "learning_rate": 2e-3},
    "actors": {"envs": 32},
    "total_steps": 1_000_000,
    "initialisation": "orthogonal",
    "last_action": True,
    "normalise_values": True,
}


class Presets(NamedTuple):
    """Presets by name, and the names of those used without --preset."""

    settings: dict[str, Values]
    on_gpu: str
    on_cpu: str


def agent_presets(named: Values) -> Presets:
    """Return the presets of agents; the default depends on the environment that is named."""
    env = named.get("env", {}).get("name") or DEFAULT_ENV
    paper = _PAPER_PROCGEN if env == "procgen" else _PAPER
    presets = {"paper": paper, "gpu": _GPU, "cpu": _CPU, "toy": _TOY, "memory": _MEMORY}
    found = {name: _for_core(values, _named_core(named)) for name, values in presets.items()}
    if env in ("atari", "procgen"):
        return Presets(found, on_gpu="gpu", on_cpu="cpu")
    small = "memory" if env == "gym" else "toy"
    return Presets(found, small, small)


def _named_core(named: Values) -> str:
    name: str = named.get("core", {}).get("name") or DEFAULT_CORE
    return name


def _for_core(preset: Values, core: str) -> Values:
    """Return the settings of a preset for one core."""
    has = {field.name for field in dataclasses.fields(components.config_class("core", core))}
    settings = {name: value for name, value in preset.items() if name not in components.names("core")}
    of_core = {name: value for name, value in preset.get("core", {}).items() if name in has}
    settings["core"] = {"name": core, **of_core}
    own = {section: {**settings[section], **changes} for section, changes in preset.get(core, {}).items()}
    return settings | own


# The published models of the algorithmic tasks and of WikiText-103. The published settings of the LSTM are not known:
# these are its script's defaults.
_PAPER_TASK: Values = {
    "core": {
        "hidden_size": 256,
        "num_layers": 4,
        "num_heads": 16,
        "feedforward_size": 1024,
        "dropout": 0.1,
        "input_layer": False,
        "context": 768,  # longer than every published sequence
    },
    "model": {"embedding_size": 256, "dropout": 0.1},
    "linear_transformer": {"core": {"feature_map": "elu"}},
    "delta_rnn": {"core": {"feature_map": "elu_sum_norm"}},
    "transformer": {"core": {"block": "post_norm", "final_norm": True}},
    "lstm": {"core": {"hidden_size": 512, "num_layers": 2}},
}
_PAPER_TEXT: Values = {
    "core": {
        "hidden_size": 128,
        "num_layers": 16,
        "num_heads": 8,
        "feedforward_size": 2048,
        "dropout": 0.1,
        "block": "normalised_residual",
        "input_layer": False,
        "scale_reads": True,
        "context": 256,
    },
    "model": {
        "embedding_size": 128,
        "embedding_scale": True,
        "positions": "backwards",
        "dropout": 0.1,
        "tied": True,
        "cutoffs": [20_000, 40_000, 200_000],
        "initialisation": "normal",
    },
    "learner": {
        "learning_rate": 2.5e-4,
        "schedule": "cosine",
        "warmup": 2000,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "gradient_clip": 0.25,
        "batch_size": 96,
        "segment_length": 256,
    },
    "total_steps": 500_000,
    "validation_interval": 4000,
    "linear_transformer": {"core": {"feature_map": "elu"}},
    "delta_rnn": {"core": {"feature_map": "elu_sum_norm"}},
    "transformer": {"core": {"block": "post_norm", "positions": "none"}},
}
# Small models that learn a small variant of the task in minutes on two CPU cores.
_CPU_TASK: Values = {
    "core": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "feedforward_size": 128, "context": 256},
    "model": {"embedding_size": 64},
    "learner": {"learning_rate": 2e-3, "schedule": "cosine", "warmup": 100, "gradient_clip": 1.0},
    "total_steps": 2000,
    "validation_interval": 200,
}
_CPU_TEXT: Values = {
    **_CPU_TASK,
    "learner": {
        **_CPU_TASK["learner"],
        "gradient_clip": 0.25,
        "batch_size": 16,
        "segment_length": 64,
        "context": "carried",
    },
    # A state that is carried through an epoch does not suit these two: results/sequences has figures.
    "transformer": {"learner": {"context": "segment"}},
    "linear_transformer": {"learner": {"context": "segment"}},
    "total_steps": 4000,
}
# By preset and task; None: every other task.
_TASKS: dict[str, dict[str | None, Values]] = {
    "paper": {None: _PAPER_TASK, "language_model": _PAPER_TEXT},
    "cpu": {
        None: _CPU_TASK,
        "listops": {**_CPU_TASK, "task": {"depth": 3}},
        "code_execution": {
            **_CPU_TASK,
            "task": {"statements": 10},
            "objective": {"answer_weight": 10.0},
            "learner": {**_CPU_TASK["learner"], "learning_rate": 4e-3},
        },
        "language_model": _CPU_TEXT,
    },
}


def sequence_presets(named: Values) -> Presets:
    """Return the presets of supervised tasks. They depend on the task and the core that are named."""
    task, found = named["task"].get("name"), {}
    for name, tasks in _TASKS.items():
        preset = tasks.get(task, tasks[None])
        found[name] = _for_core({**preset, "task": {"name": task, **preset.get("task", {})}}, _named_core(named))
    return Presets(found, "paper", "cpu")
