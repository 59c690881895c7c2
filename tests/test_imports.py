"""Which folder may import which, by what name, and that importing does nothing."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The whole picture: a folder imports itself, and these.
ARROWS = {
    "cuda": set[str](),
    "envs": set[str](),
    "models": {"cuda"},
    "agents": {"models", "envs"},
    "runners": {"agents", "envs", "models", "cuda"},
}
NVIDIAS = "cuda.bindings"  # a package of the namespace that our folder shares its name with
SOURCES = sorted(path for folder in ARROWS for path in (ROOT / folder).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def imported_names(source: str) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of everything that a file imports; a relative name begins with a dot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)


def forbidden(folder: str, source: str) -> list[str]:
    """What a file of this folder imports and may not, as `line: name (reason)`."""
    found = []
    for line, name in imported_names(source):
        first, _, rest = name.partition(".")
        target = rest.partition(".")[0]
        if not first:
            found.append(f"{line}: {name} (relative; write rfwp.{folder}...)")
        elif first in ARROWS and not name.startswith(NVIDIAS):
            found.append(f"{line}: {name} (bare; write rfwp.{name})")
        elif first == "rfwp" and target not in {folder, "__version__", "cache", "checks", *ARROWS.get(folder, ARROWS)}:
            found.append(f"{line}: {name} ({folder} may not import {target or 'the whole namespace'})")
    return found


# What agents and runners may not name: they ask an environment what it can do. The presets and the self-test of
# `rfwp doctor` choose one.
ENVIRONMENTS = {
    *(path.stem for folder in ("worlds", "sequences") for path in (ROOT / "envs" / folder).glob("[a-z]*.py")),
    *("toy", "env.game", "env.protocol"),
}
INTERFACES = ("rfwp.envs.subject.", "rfwp.envs.spaces.", "rfwp.envs.vector_env.", "rfwp.envs.sequence_task.")
CHOOSING = ("runners/settings/presets.py", "runners/machine/doctor.py", "runners/commands/envs.py")


def environments_named(source: str) -> list[str]:
    """Which environments a file knows, as `line: name`: by an import from `envs`, or by a string."""
    imports = [(line, f"{name}.") for line, name in imported_names(source) if name.startswith("rfwp.envs")]
    found = [f"{line}: {name}" for line, name in imports if not name.startswith(INTERFACES)]
    constants = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
    return [*found, *(f"{node.lineno}: {node.value}" for node in constants if node.value in ENVIRONMENTS)]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_imports_follow_the_arrows() -> None:
    files = [*SOURCES, *TESTS]
    found = {name_of(path): forbidden(path.relative_to(ROOT).parts[0], path.read_text()) for path in files}
    assert len(files) > 150
    assert {name: lines for name, lines in found.items() if lines} == {}


AGAINST = [
    ("models", "from rfwp.agents.learner import Learner"),
    ("envs", "import rfwp.models.core"),
    ("cuda", "from rfwp import models"),
    ("agents", "from rfwp.runners import config"),
    ("models", "import rfwp"),
    ("models", "from models.core import Core"),
    ("models", "import cuda"),
    ("models", "from .core import Core"),
    ("models", "from . import core"),
    ("models", "def late():\n    from rfwp.envs import vector_env"),
    ("tests", "import agents.learner"),
]
ALONG = [
    ("models", "from rfwp.models.core import Core"),
    ("models", "from rfwp import cuda"),
    ("agents", "from rfwp.envs.vector_env import VectorEnv"),
    ("runners", "import rfwp.agents.learner"),
    ("envs", "import numpy as np"),
    ("cuda", "from cuda.bindings import driver"),
    ("tests", "from rfwp.runners.cli import main"),
]


def test_an_import_against_the_arrows_is_found_and_one_along_them_allowed() -> None:
    assert [(folder, line) for folder, line in AGAINST if len(forbidden(folder, line)) != 1] == []
    assert [(folder, line) for folder, line in ALONG if forbidden(folder, line)] == []


def test_agents_and_runners_ask_what_an_environment_can_do_and_never_what_it_is() -> None:
    callers = {name_of(path): path for path in SOURCES if path.relative_to(ROOT).parts[0] in ("agents", "runners")}
    assert set(CHOOSING) <= set(callers)
    found = {name: environments_named(path.read_text()) for name, path in callers.items() if name not in CHOOSING}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_an_environment_that_is_named_is_found() -> None:
    named = [
        "from rfwp.envs.worlds import atari",
        "from rfwp.envs.worlds.recall import Config",
        "import rfwp.envs.games",
        "from rfwp.envs import published",
        "lives = config.env.suite == 'atari'",
        "small = world not in (None, 'toy')",
        "game = settings['env.game']",
    ]
    assert [line for line in named if len(environments_named(line)) != 1] == []
    assert environments_named("from rfwp.envs.vector_env import EnvConfig") == []


def test_a_package_file_holds_its_docstring_only() -> None:
    files = {name_of(path): path for path in SOURCES if path.name == "__init__.py" and path.parent.name != "package"}
    modules = {name: ast.parse(path.read_text()) for name, path in files.items()}
    assert modules
    assert [name for name, module in modules.items() if not ast.get_docstring(module) or len(module.body) != 1] == []


def test_the_command_line_starts_without_torch() -> None:
    check = "import sys, rfwp.runners.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], timeout=300).returncode == 0


def test_commands_start_without_what_takes_seconds_to_load() -> None:
    check = (
        "import sys, rfwp.runners.commands.train, rfwp.runners.settings.options as options;"
        "options.config_from_words(['--core', 'rdn']);"
        "print([name for name in ('torch._dynamo', 'scipy.stats') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", check], timeout=300, capture_output=True, text=True)
    assert (result.stdout, result.returncode) == ("[]\n", 0), result.stderr


def opened_in_the_locales_encoding(source: str) -> list[str]:
    """Calls that read or write text without saying how it is encoded, as `line: name`."""
    found = []
    for call in (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)):
        function, words = ast.unparse(call.func), {keyword.arg for keyword in call.keywords}
        owner, _, name = function.rpartition(".")
        arguments = [ast.unparse(argument) for argument in [*call.args, *(word.value for word in call.keywords)]]
        binary = any(re.fullmatch("'[rwax+]*b[rwax+]*'", argument) for argument in arguments)
        opens = name in ("open", "fdopen", "TemporaryFile") and owner != "os" and not owner.endswith("_tracker")
        text = (opens and not binary) or name in ("read_text", "write_text")
        runs = any(word.arg == "text" and ast.unparse(word.value) == "True" for word in call.keywords)
        if (text or runs) and "encoding" not in words:
            found.append(f"{call.lineno}: {name}")
    return found


def test_text_files_are_utf_8_in_every_locale():
    assert opened_in_the_locales_encoding('p.read_text()\nopen(p)\nq.open("w")\nrun(c, text=True)') == [
        "1: read_text",
        "2: open",
        "3: open",
        "4: run",
    ]
    assert not opened_in_the_locales_encoding('q.open("rb")\nopen(p, encoding="utf-8")\nos.open(p, 0)')
    for path in SOURCES:
        assert not opened_in_the_locales_encoding(path.read_text()), path
