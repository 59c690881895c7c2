"""Variants of the environment or task of a run: its settings among the words of `rfwp evaluate`."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from rfwp.envs.subject import Subject
from rfwp.runners.settings.config import RunConfig
from rfwp.runners.settings.kinds import Kind
from rfwp.runners.settings.layers import build_component, to_dict


def split_words(kind: Kind, argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Split words into those of the command and the settings of what a kind of run learns, by name."""
    prefix = f"--{kind.subject}."
    ours: list[str] = []
    settings: dict[str, str] = {}
    words = iter(argv)
    for word in words:
        if word.startswith(prefix):
            name, given, value = word.removeprefix(prefix).partition("=")
            settings[name] = value if given else next(words, "")
        else:
            ours.append(word)
    return ours, settings


def variants(kind: Kind, config: RunConfig, settings: Mapping[str, str]) -> list[Any]:
    """Return what to score a run on: its environment or task with these settings changed.

    The title and a whole number may be a list, as in "1,2,3", for a variant each. Raise UserError for a setting that
    does not exist or a value that is not allowed.
    """
    own: dict[str, Any] = to_dict(config)[kind.subject]
    subject: Subject = getattr(config, kind.subject)
    choices = [
        value.split(",") if name == subject.title_setting or isinstance(own.get(name), int) else [value]
        for name, value in settings.items()
    ]
    combinations = (dict(zip(settings, values, strict=True)) for values in product(*choices))
    return [build_component(kind.subject, {**own, **changed}) for changed in combinations]
