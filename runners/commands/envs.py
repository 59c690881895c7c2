"""`rfwp envs`: lists environments, and says how one of them is read."""

import json
from collections.abc import Mapping, Sequence

from rich.table import Table

from rfwp.envs import gym_probe
from rfwp.envs.gym_probe import Registered
from rfwp.envs.spaces import Field, described
from rfwp.envs.vector_env import EnvConfig
from rfwp.runners.build import spec_of
from rfwp.runners.machine.errors import UserError
from rfwp.runners.machine.terminal import Terminal
from rfwp.runners.settings import components
from rfwp.runners.settings.config import AgentRunConfig, agent_config
from rfwp.runners.settings.consent import add_trust_option
from rfwp.runners.settings.options import read_command_line
from rfwp.runners.settings.parsing import Parser, parse


def run(argv: Sequence[str]) -> int:
    """Run `rfwp envs` with these words; return the exit code."""
    word = argv[0] if argv and not argv[0].startswith("-") else ""
    registered = _registered()
    if ":" in word or any(word in ids for ids in registered.ids.values()):
        config = agent_config(read_command_line(["--env=gym", f"--env.id={word}", *argv], "rfwp envs", _options).config)
        _describe(config)
        return 0
    parser = Parser("rfwp envs")
    _options(parser)
    parser.add_argument("--json", action="store_true", help="print the list as an object: package to IDs")
    values = parse(parser, argv)
    _list(registered, values.word.lower(), values.json)
    return 0


def _options(parser: Parser) -> None:
    parser.description = (
        "List the environments that are installed and whose names contain WORD; or, for the ID of a Gymnasium"
        " environment, say how its observations and actions are read. Settings of the environment can follow an ID, as"
        " in `rfwp train --env gym`."
    )
    parser.add_argument("word", type=str, nargs="?", default="", metavar="WORD", help="part of a name, or an ID")
    add_trust_option(parser)


def _registered() -> Registered:
    try:
        return gym_probe.registered()
    except ValueError as error:
        raise UserError(str(error)) from None


def _list(registered: Registered, word: str, as_json: bool) -> None:
    """Print the names that contain a word, by where they come from."""
    own = {name: components.description("env", name) for name in components.names("env")}
    configs = {name: components.config_class("env", name) for name in own}
    everything = {"rfwp": list(own), **_titles(configs), **registered.ids}
    names = {
        source: [name for name in listed if word in f"{source} {name}".lower()] for source, listed in everything.items()
    }
    missing = [f"{package} ({how})" for package, how in registered.missing.items()]
    if not any(names.values()):
        known = [name for source, listed in everything.items() for name in (source, *listed)]
        hint = components.nearest(word, known) + (f"; not installed: {', '.join(missing)}" if missing else "")
        raise UserError(f"word: no environment has {word!r} in its name{hint}")
    if as_json:
        print(json.dumps(names, indent=2))
        return
    console = Terminal()
    for name in names.pop("rfwp"):
        console.say(f"--env {name}: {own[name]}")
    for source, listed in names.items():
        if listed:
            option = f"--env {source} --{components.title_option(configs[source])}" if source in own else None
            console.say(f"\n{option} NAME:" if option else f"\n--env gym --env.id ID, of {source}:")
            console.print("  " + "  ".join(listed))
    sets = [name for config in configs.values() for name in config.title_sets if word in name]
    if sets:
        console.say(f"\nSets of these, for rfwp compare --envs: {', '.join(sets)}")
    if missing:
        console.say(f"\nNot installed: {', '.join(missing)}")


def _titles(configs: Mapping[str, type[EnvConfig]]) -> dict[str, list[str]]:
    """Return the titles of each of our environments that has several; those of `gym` are the IDs that are installed."""
    found = {
        env: sorted({title for titles in config.title_sets.values() for title in titles})
        for env, config in configs.items()
    }
    return {env: titles for env, titles in found.items() if titles and env != "gym"}


def _describe(config: AgentRunConfig) -> None:
    """Print the fields and the actions of an environment, and which part of the network reads each field."""
    spec = spec_of(config.env)
    console, table = Terminal(), Table("field", "read by", title=config.env.title, title_justify="left")
    for field in spec.observation:
        table.add_row(described(field), _reader(field, config))
    console.print(table)
    for names in spec.action_names:
        console.print(f"Action: {len(names)} values: {', '.join(names)}")
    for note in config.env.notes:
        console.say(f"Note: {note}")
    packages = ", ".join(f"{name} {version}" for name, version in config.env.packages.items())
    console.say(f"From {packages or 'no installed package'}")


def _reader(field: Field, config: AgentRunConfig) -> str:
    match field.kind:
        case "image":
            return f"the encoder ({components.name_of(config.encoder)}), divided by 255"
        case "vector":
            return "a linear layer, normalised"
        case "categories":
            return "a learned vector per value, summed"
