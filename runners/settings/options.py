"""The command line of a run: an option for every setting, and the other options of `rfwp train`.

Values come from the settings classes, the preset, the config file and the command line; later ones win.
"""

import dataclasses
import json
from argparse import SUPPRESS, Namespace
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import docstring_parser

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.config import RunConfig
from rfwp.runners.settings.config_file import read_config_file
from rfwp.runners.settings.consent import add_trust_option, check_imports
from rfwp.runners.settings.kinds import AGENT, SEQUENCES, Kind, kind_of
from rfwp.runners.settings.layers import build_config, check_layer, flatten, merge, nested, section_class
from rfwp.runners.settings.parsing import Parser, parse
from rfwp.runners.settings.presets import Values
from rfwp.runners.settings.values import allowed

PROFILED_UPDATES = 10  # if --profile has no number


class CommandLine(NamedTuple):
    """A parsed command line."""

    config: RunConfig
    own: Namespace  # the command's own options, apart from the settings
    given: frozenset[str]  # names of the settings that it contains, as in "env.name"


def add_run_options(parser: Parser) -> None:
    """Add the options of `rfwp train` other than settings."""
    parser.description = (
        "Train an agent in an environment (--env), or a sequence model on a supervised task (--task); or resume the run"
        " in an existing folder. The settings below are those of the environment or task, and of the core, that the"
        " command line names."
    )
    parser.add_argument("--run", metavar="FOLDER", help="run folder; an existing run is resumed")
    parser.add_argument(
        "--resume_from",
        metavar="best|last|STEP",
        help="checkpoint to resume from; newer ones are set aside with their metrics, not deleted",
    )
    parser.add_argument(
        "--profile",
        type=int,
        nargs="?",
        const=PROFILED_UPDATES,
        default=0,
        metavar="UPDATES",
        help=f"trace UPDATES updates of the learner ({PROFILED_UPDATES} if no number is given) into the run's"
        " profile.json.gz, for https://ui.perfetto.dev",
    )
    add_trust_option(parser)
    parser.add_argument("--print_config", action="store_true", help="print the resulting config and exit")


def read_command_line(
    argv: Sequence[str],
    prog: str = "rfwp train",
    add_own: Callable[[Parser], None] = add_run_options,
    below: Values | None = None,
) -> CommandLine:
    """Read a command line on top of the layers below it, by default the preset and the config file that it names.

    Other commands than `train` pass `add_own`, which sets their description and adds their own options.
    """
    named = _named(argv)
    below = _layers_below(named) if below is None else below
    parser = Parser(prog)
    parser.usage = "%(prog)s [options]"
    add_own(parser)
    names = _add_settings(parser, merge(below, nested({key: value for key, value in named.items() if "." in key})))
    given = vars(parse(parser, argv))
    names_given = frozenset(names) & given.keys()
    layer = nested({name: given.pop(name) for name in names if name in names_given})
    config, own = build_config(merge(below, layer)), Namespace(**given)
    check_imports(config.subject, getattr(own, "trust", False), names_given)
    return CommandLine(config, own, names_given)


def config_from_words(argv: Sequence[str]) -> RunConfig:
    """Return the config of a new run from the words after `rfwp train`."""
    return read_command_line(argv).config


def named_run(argv: Sequence[str]) -> str | None:
    """Return the folder after --run; None without it."""
    return _named(argv).get("run")


def named_device(argv: Sequence[str]) -> str | None:
    """Return the device after --device; None without it."""
    return _named(argv).get("device")


def _named(argv: Sequence[str]) -> dict[str, str]:
    """Read the options that decide which others exist and their defaults; do not check the other words."""
    finder = Parser("rfwp", add_help=False)
    for key in ("run", "config", "preset", "device"):
        finder.add_argument(f"--{key}", default=SUPPRESS)
    for section in components.PACKAGES:
        finder.add_argument(f"--{section}", f"--{section}.name", dest=f"{section}.name", default=SUPPRESS)
    return vars(parse(finder, argv, ignore_others=True))


def _layers_below(named: Mapping[str, str]) -> Values:
    """Return the preset and the config file that a command line names, merged."""
    kind, file = _named_kind(named), Values()
    if "config" in named:
        if named["config"] == "":
            raise UserError("config: got ''; allowed: a config.yaml")
        file = read_config_file(Path(named["config"]), kind)
    names = merge(file, nested({key: value for key, value in named.items() if "." in key}))
    preset = kind_of(names).preset(named.get("preset"), names, named.get("device") or file.get("device"))
    below = merge(preset, file)
    check_layer(below)
    return below


def _named_kind(named: Mapping[str, str]) -> Kind | None:
    """Return the kind of run that a command line names, if it does."""
    if "env.name" in named and "task.name" in named:
        raise UserError(f"task: got {named['task.name']!r} beside env {named['env.name']!r}; allowed: one of the two")
    return SEQUENCES if "task.name" in named else AGENT if "env.name" in named else None


def _add_settings(parser: Parser, values: Values) -> list[str]:
    """Add an option without a default for every setting; return the names. `values` are shown as defaults."""
    shown, kind = flatten(values), kind_of(values)
    presets, on_gpu, on_cpu = kind.presets(values)
    parser.add_argument("--config", metavar="FILE", default=SUPPRESS, help="start from this config.yaml")
    parser.add_argument(
        "--preset",
        metavar="NAME",
        default=SUPPRESS,
        help=f"one of {', '.join(presets)}; default here: {on_gpu} on a GPU, {on_cpu} without",
    )
    names = _add_options(parser, kind, "", kind.config, shown)
    for section in kind.sections:
        names += _add_options(parser, kind, section, section_class(kind, section, values.get(section, {})), shown)
    return names


def _add_options(parser: Parser, kind: Kind, section: str, owner: type[Any], shown: Mapping[str, Any]) -> list[str]:
    """Add the options of one section; with "", those of no section."""
    documented = [
        docstring_parser.parse_from_object(each) for each in owner.__mro__[::-1] if dataclasses.is_dataclass(each)
    ]
    help_of = {param.arg_name: param.description or "" for doc in documented for param in doc.params}
    names, hints = [], get_type_hints(owner)
    group: Any = parser
    if section:
        title = f"{section} {shown.get(f'{section}.name', '')}".strip()
        group = parser.add_argument_group(title, documented[-1].short_description)
    if section in kind.components:
        names.append(f"{section}.name")
        group.add_argument(
            f"--{section}",
            f"--{section}.name",
            dest=names[-1],
            default=SUPPRESS,
            metavar="NAME",
            help=f"{', '.join(components.names(section))} (default: {shown[names[-1]]})",
        )
    for field in dataclasses.fields(owner):
        if not section and field.name in kind.sections:
            continue
        names.append(f"{section}.{field.name}" if section else field.name)
        hint, default = hints[field.name], shown.get(names[-1], field.default)
        text = f"{' '.join(help_of[field.name].split())} ({allowed(hint)}; default: {_as_text(default)})"
        # A switch works alone (--sync) and with its value (--sync false).
        switch: dict[str, Any] = {"nargs": "?", "const": "true"} if hint is bool else {}
        group.add_argument(
            f"--{names[-1]}",
            default=SUPPRESS,
            metavar=field.name.upper(),
            help=text.replace("%", "%%"),
            **switch,
        )
    parser.option_names += names
    return names


def _as_text(value: Any) -> str:
    """Format a value as a user would write it."""
    return value if isinstance(value, str) else json.dumps(value)
