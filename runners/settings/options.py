"""Turns command lines and config files into a TrainConfig; every mistake becomes one UserError line.

Values come from, the later the stronger: the settings classes, the preset, the config file, the command line.
"""

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast, get_type_hints

import docstring_parser
import torch
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from rfwp.runners.machine.errors import UserError
from rfwp.runners.settings import components
from rfwp.runners.settings.config import COMPONENTS, DEFAULT_ENV, DEFAULT_PRESETS, PRESETS, SECTIONS, TrainConfig
from rfwp.runners.settings.config_file import Values, read_config_file
from rfwp.runners.settings.parsing import make_parser, parse

PRINT_CONFIG = "--print_config"
PROFILED_UPDATES = 10  # unless another number is given


def parse_train(
    argv: Sequence[str],
    base: Values,
    prog: str = "rfwp train",
    add_own: Callable[[ArgumentParser], None] | None = None,
) -> Namespace:
    """Every setting of a run from `base` (a config file's values, or {}) and a command line that overrides it.

    The command line may hold what `peek` reads, too. Another command than `train` says with `add_own` what it does, and
    which options it has instead of those for the run folder.
    Presets and config files are read as if they stood on the command line, before its own words, so that one parser
    checks them all.
    """
    early = peek(argv)
    argv = [word for word in _spell_out(argv) if word != PRINT_CONFIG]  # `peek` has seen it
    named: Values = {section: {"name": early[f"{section}.name"]} for section in COMPONENTS}
    device = early["device"] or base.get("device")
    preset = _preset(early["preset"], _component_names([base, named]).get("env"), device)
    names = _component_names([preset, base, named])
    parser = train_parser(names, prog, add_own or _add_run_options)
    words = [*_as_words(preset, names), *_as_words(base, names)]
    if "-h" in argv or "--help" in argv:
        parser.set_defaults(vars(parse(parser, words).as_flat()))  # help shows what would be used
    return parse(parser, [*words, *argv])


def parse_like_train(argv: Sequence[str], prog: str, add_own: Callable[[ArgumentParser], None]) -> Namespace:
    """What another command makes of its words, which may hold every setting of a run and name a config file."""
    return parse_train(argv, _named_config(argv), prog, add_own)


def build_config(values: Namespace) -> TrainConfig:
    """The settings objects, checked; UserError names the field with its section."""
    fields: Values = {}
    for section in SECTIONS:
        settings = vars(values[section]).copy()
        owner = _section_class(section, {section: settings.pop("name", "")})
        fields[section] = _checked(section, owner, settings)
    scalars = {f.name: values[f.name] for f in dataclasses.fields(TrainConfig) if f.name not in SECTIONS}
    return cast(TrainConfig, _checked("", TrainConfig, {**fields, **scalars}))


def config_from_values(values: Values) -> TrainConfig:
    """The config of a run folder's config.yaml."""
    return build_config(parse_resumed([], values))


def parse_resumed(argv: Sequence[str], values: Values) -> Namespace:
    """A run's own settings, overridden by a command line.

    What they lack, because a later release added it, does not depend on the machine that reads them.
    """
    return parse_train(["--preset", "paper", *argv], values)


def config_from_words(argv: Sequence[str]) -> TrainConfig:
    """The config of a new run from the words after `rfwp train`, with the config file that they may name."""
    return build_config(parse_train(argv, _named_config(argv)))


def _named_config(argv: Sequence[str]) -> Values:
    """The values of the config file that a command line names, {} if it names none."""
    path = peek(argv)["config"]
    if path == "":
        raise UserError("config: got ''; allowed: a config.yaml")
    return {} if path is None else read_config_file(Path(path))


def _spell_out(argv: Sequence[str]) -> list[str]:
    """--core rdn is short for --core.name rdn; so for every kind of component."""
    shorthand = re.compile(f"--({'|'.join(COMPONENTS)})(=.*)?")
    return [re.sub(r"^--(\w+)", r"--\1.name", word) if shorthand.fullmatch(word) else word for word in argv]


def peek(argv: Sequence[str]) -> dict[str, Any]:
    """What a command line says beside the settings, such as run and preset; and the components' names."""
    finder = argparse.ArgumentParser(exit_on_error=False, allow_abbrev=False, add_help=False)
    for key in ("run", "resume_from", "config", "preset", "device", *(f"{section}.name" for section in COMPONENTS)):
        finder.add_argument(f"--{key}")
    finder.add_argument("--profile", nargs="?", const=str(PROFILED_UPDATES), default="0")
    finder.add_argument(PRINT_CONFIG, action="store_true")
    try:
        return vars(finder.parse_known_args(_spell_out(argv))[0])
    except ArgumentError as error:
        raise UserError(str(error)) from None


def default_preset(world: str | None, device: str | None) -> str:
    """Return the preset's name for a world (default: DEFAULT_ENV) on a device (default: the best of this machine)."""
    suite = components.config_class("env", world or DEFAULT_ENV).suite
    presets = DEFAULT_PRESETS.get(suite, DEFAULT_PRESETS[None])
    return presets.on_gpu if torch.cuda.is_available() and device != "cpu" else presets.on_cpu


def _preset(name: str | None, world: str | None, device: str | None) -> Values:
    name = default_preset(world, device) if name is None else name
    if name not in PRESETS:
        raise UserError(f"preset: got {name!r}; allowed: {', '.join(PRESETS)}")
    return PRESETS[name]


def _component_names(layers: Sequence[Values]) -> dict[str, str]:
    """The component of each kind that the strongest, the last, layer names."""
    chosen = {}
    for section in COMPONENTS:
        for layer in layers:
            part = layer.get(section)
            if isinstance(part, dict) and part.get("name") is not None:
                chosen[section] = str(part["name"])
    return chosen


def _as_words(layer: Values, names: dict[str, str]) -> list[str]:
    """Nested settings as command-line words; those of a component that another one has replaced are left out."""
    words = []
    for key, value in layer.items():
        if not isinstance(value, dict) or key not in SECTIONS:
            words.append(f"--{key}={_as_text(value)}")
        elif value.get("name", names.get(key)) == names.get(key):
            words += [f"--{key}.{field}={_as_text(setting)}" for field, setting in value.items()]
    return words


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _checked(section: str, owner: type[Any], settings: Values) -> Any:
    try:
        return owner(**settings)
    except ValueError as error:
        raise UserError(f"{section}.{error}" if section else str(error)) from None


def _add_run_options(parser: ArgumentParser) -> None:
    parser.description = "Trains an agent, or resumes the run in an existing folder."
    parser.add_argument(
        "--run", type=str | None, metavar="FOLDER", help="folder of the run; an existing run is resumed"
    )
    parser.add_argument(
        "--resume_from",
        type=str | None,
        metavar="best|last|STEP",
        help="checkpoint of the run to go on from; newer ones are set aside with the metrics, not deleted",
    )
    parser.add_argument(
        "--profile",
        type=int | None,
        nargs="?",
        const=PROFILED_UPDATES,
        metavar="UPDATES",
        help=f"trace UPDATES updates of the learner ({PROFILED_UPDATES} if no number is given) into the run's"
        " profile.json.gz, for https://ui.perfetto.dev",
    )
    parser.add_argument(PRINT_CONFIG, action="store_true", help="print the resulting config and exit")


def train_parser(names: dict[str, str], prog: str, add_own: Callable[[ArgumentParser], None]) -> ArgumentParser:
    """A parser with an option for every setting of the named components."""
    parser = make_parser(prog)
    add_own(parser)
    parser.add_argument("--config", type=str | None, metavar="FILE", help="start from this config.yaml")
    parser.add_argument(
        "--preset",
        type=str | None,
        metavar="NAME",
        help=f"one of {', '.join(PRESETS)}; default for Atari: paper on a GPU, cpu without; else toy",
    )
    _add_options(parser, None, TrainConfig)
    for section in SECTIONS:
        _add_options(parser, section, _section_class(section, names), names.get(section))
    return parser


def _section_class(section: str, names: dict[str, str]) -> type[Any]:
    if section in COMPONENTS:
        return components.config_class(section, names[section])
    return cast(type[Any], get_type_hints(TrainConfig)[section])


def _add_options(parser: ArgumentParser, section: str | None, owner: type[Any], name: str | None = None) -> None:
    documented = [
        docstring_parser.parse_from_object(each) for each in owner.__mro__[::-1] if dataclasses.is_dataclass(each)
    ]
    doc = documented[-1]  # a class documents its own fields only
    described = {param.arg_name: param.description or "" for each in documented for param in each.params}
    help_of = {name: text.replace("\n", " ").replace("%", "%%") for name, text in described.items()}
    group: Any = parser
    if section:
        group = parser.add_argument_group(f"{section} {name or ''}".strip(), doc.short_description)
    if section and name:
        allowed = ", ".join(components.names(section))
        group.add_argument(
            f"--{section}.name", type=str, default=name, metavar="NAME", help=f"or --{section} NAME: {allowed}"
        )
    hints = get_type_hints(owner)
    for field in dataclasses.fields(owner):
        if section is None and field.name in SECTIONS:
            continue
        key = f"{section}.{field.name}" if section else field.name
        default = field.default if field.default is not dataclasses.MISSING else None
        # A switch works alone (--sync) and with its value (--sync false).
        switch = {"nargs": "?", "const": True} if hints[field.name] is bool else {}
        group.add_argument(
            f"--{key}", type=hints[field.name], default=default, help=help_of.get(field.name, ""), **switch
        )
