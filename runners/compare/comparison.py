"""A comparison: every combination of environments or tasks, cores and seeds, trained and scored in the same way."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from rfwp.envs.subject import Subject
from rfwp.runners.machine.errors import UserError
from rfwp.runners.runfolder.files import write_whole
from rfwp.runners.runfolder.folder import RunFolder
from rfwp.runners.settings import components
from rfwp.runners.settings.config import AgentRunConfig, RunConfig
from rfwp.runners.settings.consent import check_imports
from rfwp.runners.settings.kinds import AGENT, SEQUENCES, Kind
from rfwp.runners.settings.layers import differences
from rfwp.runners.settings.options import config_from_words, named_device
from rfwp.runners.settings.values import convert

RECORD = "comparison.json"
SETTING_OF = {"env.name": "envs", "task.name": "tasks", "core.name": "cores", "total_steps": "steps"}
# Options of `rfwp train` that a comparison sets itself, and their replacements.
INSTEAD = {
    **dict.fromkeys(("env", "env.name", "game"), "--envs"),
    **dict.fromkeys(("core", "core.name"), "--cores"),
    **dict.fromkeys(("task", "task.name"), "--tasks"),
    "seed": "--seeds",
    "total_steps": "--steps",
    "run": "--out",
    "resume_from": "rfwp train --run RUN --resume_from",
    "config": "the settings as options",
    "print_config": "rfwp train --print_config",
}
KINDS = {"envs": AGENT, "tasks": SEQUENCES}  # by the option that names the subjects


class Cell(NamedTuple):
    """One run of a comparison."""

    subject: str  # what selects the title of an environment, or the name of a task
    core: str
    seed: int

    @property
    def name(self) -> str:
        """Name of its folder."""
        return re.sub(r"[^\w.-]", "-", f"{self.subject}-{self.core}-{self.seed}")

    @contextlib.contextmanager
    def named_in_errors(self) -> Iterator[None]:
        """Append which runs are meant to a UserError."""
        try:
            yield
        except UserError as error:
            raise UserError(f"{error} (in the runs of {self.core} on {self.subject})") from None


@dataclass(frozen=True)
class Comparison:
    """The requested grid: every subject with every core and seeds from 1."""

    option: str  # envs or tasks: what the subjects are
    subjects: tuple[str, ...]  # titles of environments, or names of tasks, as `find_titles` spells them
    cores: tuple[str, ...]
    seeds: int
    steps: int
    presets: tuple[str, ...]  # one per subject
    settings: tuple[str, ...] = ()  # of all runs, as words for `rfwp train`

    @property
    def kind(self) -> Kind:
        """The kind of all runs."""
        return KINDS[self.option]

    @property
    def cells(self) -> list[Cell]:
        """Runs in the order in which they start: seed 1 of everything comes first."""
        seeds = range(1, self.seeds + 1)
        return [Cell(subject, core, seed) for seed in seeds for subject in self.subjects for core in self.cores]

    def words(self, cell: Cell) -> list[str]:
        """Return the settings of a run as words for `rfwp train`."""
        name, title = _find(self.option, cell.subject)
        option = components.title_option(components.config_class(self.kind.subject, name))
        which = [f"--{self.kind.subject}", name, *([f"--{option}", title] if option else [])]
        own = ["--core", cell.core, "--seed", str(cell.seed), "--total_steps", str(self.steps)]
        return ["--preset", self.presets[self.subjects.index(cell.subject)], *self.settings, *which, *own]

    def configs(self) -> Iterator[tuple[Cell, RunConfig]]:
        """Yield the settings of every run. Raise UserError if they are not allowed."""
        first: dict[tuple[str, str], RunConfig] = {}  # parsing is slow, and only the seed differs
        for cell in self.cells:
            if cell[:2] not in first:
                first[cell[:2]] = self._read(cell)
            yield cell, dataclasses.replace(first[cell[:2]], seed=cell.seed)

    @property
    def any_config(self) -> RunConfig:
        """The settings of one run, for those that all runs share."""
        return next(self.configs())[1]

    def _read(self, cell: Cell) -> RunConfig:
        with cell.named_in_errors():
            config = config_from_words(self.words(cell))
        if isinstance(config, AgentRunConfig) and config.final_episodes == 0:
            raise UserError("final_episodes: got 0; allowed in a comparison: 1 or more, because they are its scores")
        return config

    def check(self, out: Path, trust: bool, named: Collection[str], subjects_named: bool) -> None:
        """Raise UserError for settings that are not allowed or differ from those of runs already in the folder.

        Code to import must be trusted, or be named on the command line: by settings, or as subjects.
        """
        for cell, config in self.configs():
            selecting = [f"env.{config.subject.title_setting}"] if subjects_named else []
            check_imports(config.subject, trust, {*named, *selecting})
            folder = RunFolder(out / cell.name)
            folder.check_free()
            title = components.title_option(config.env) if isinstance(config, AgentRunConfig) else None
            options = SETTING_OF | {title: "envs"}
            for name, (old, new) in differences(folder.read_config(), config).items() if folder.exists else ():
                raise UserError(
                    f"{options.get(name, name)}: got {new!r}, but the run {str(folder.path)!r} was started with"
                    f" {old!r}, and all runs of a comparison have the same settings: choose another --out"
                )

    def write(self, out: Path) -> None:
        """Record the request in the folder, so that `rfwp compare --out DIR` can continue it."""
        write_whole(out / RECORD, json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def read_record(out: Path) -> Comparison | None:
    """Return the comparison recorded in a folder, if any. Raise UserError if it cannot be read."""
    path = out / RECORD
    if not path.exists():
        return None
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for name, kind in get_type_hints(Comparison).items():
            values[name] = convert(kind, values[name])
        check_settings(values["settings"])
        return make_comparison(**values)
    except (ValueError, TypeError, KeyError, RecursionError, UserError) as error:
        raise UserError(f"out: {str(path)!r} is damaged: {error}; delete it and give all options again") from None


def check_settings(words: Iterable[str]) -> None:
    """Raise UserError if these words for `rfwp train` contain an option that a comparison sets itself."""
    envs = (components.config_class("env", name) for name in components.names("env"))
    instead = INSTEAD | {components.title_option(env): "--envs" for env in envs}
    for name in named_settings(words):
        if name in instead:
            raise UserError(f"{name}: there is no such option in a comparison; use {instead[name]}")


def named_settings(words: Iterable[str]) -> list[str]:
    """Return the names of the settings among these words for `rfwp train`, in order."""
    return [word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")]


def make_comparison(
    option: str,
    subjects: Sequence[str],
    cores: Sequence[str],
    seeds: int,
    steps: int,
    presets: Sequence[str | None],
    settings: Sequence[str],
) -> Comparison:
    """Build a comparison: normalise and deduplicate names, fill in presets. Raise UserError for unknown names."""
    found, known = [_find(option, subject) for subject in subjects], components.names("core")
    chosen = {title: (name, preset) for (name, title), preset in zip(found, presets, strict=True)}
    for core in cores:
        if core not in known:
            raise UserError(f"cores: got {core!r}; allowed: {', '.join(known)}{components.nearest(core, known)}")
    for name, value in (("seeds", seeds), ("steps", steps)):
        if value < 1:
            raise UserError(f"{name}: got {value}; allowed: a whole number of at least 1")
    kind, device = KINDS[option], named_device(settings)
    return Comparison(
        option,
        tuple(chosen),
        tuple(dict.fromkeys(cores)),
        seeds,
        steps,
        tuple(
            preset or kind.default_preset({kind.subject: {"name": name}}, device) for name, preset in chosen.values()
        ),
        tuple(settings),
    )


def find_titles(option: str, names: Iterable[str]) -> list[str]:
    """Return the usual spelling of subjects, given by this option, and the titles of sets such as atari/57.

    Raise UserError with the nearest name for an unknown one.
    """
    sets = _title_sets(option)
    return [title for name in names for title in sets.get(name) or [_find(option, name)[1]]]


def _title_sets(option: str) -> dict[str, tuple[str, ...]]:
    return {name: titles for owner in _owners(option).values() for name, titles in owner.title_sets.items()}


def _owners(option: str) -> dict[str, type[Subject]]:
    section = KINDS[option].subject
    return {name: components.config_class(section, name) for name in components.names(section)}


def _find(option: str, name: str) -> tuple[str, str]:
    """Return the component's name and the usual spelling of what selects its title, from any spelling."""
    owners = _owners(option)
    single = [each for each, owner in owners.items() if owner.title_setting is None]
    if name in single:
        return name, name
    titled = {each: owner for each, owner in owners.items() if owner.title_setting is not None}
    near = []
    for each, owner in titled.items():
        try:
            return each, str(getattr(owner.titled(name), str(owner.title_setting)))
        except ValueError as error:
            near += re.findall(r"nearest: ([\w, ]+)", str(error))
    sets = _title_sets(option)
    others = f"; and the names of {', '.join(titled)}, which `rfwp envs` lists" if titled else ""
    hint = components.nearest(name, [*single, *sets]) or (f"; nearest: {', '.join(near)}" if near else "")
    raise UserError(f"{option}: got {name!r}; allowed: {', '.join([*single, *sets])}{others}{hint}")
