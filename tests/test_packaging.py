"""What is installed is what is in the folders, and says so correctly."""

import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rfwp import __version__
from rfwp.envs.games import GAMES

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
FOLDERS = ("agents", "cuda", "envs", "models", "runners")
OWN = "runners/package"  # holds __init__.py and __main__.py of `rfwp` itself
# Where NVIDIA's own packages live in the namespace `cuda`.
TAKEN_BY_NVIDIA = {"bindings", "core", "pathfinder", "tile", "coop"}


def packaged_files() -> set[str]:
    """The files that belong in the wheel, as paths under the repository root."""
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file())
    wanted = (path for path in files if "__pycache__" not in path.parts and path.suffix != ".md")
    return {path.relative_to(ROOT).as_posix() for path in wanted}


def packages_on_disk() -> dict[str, str]:
    """The folder of each package; that of `rfwp` itself lies in runners/."""
    folders = {Path(name).parent for name in packaged_files() if name.endswith(".py")} - {Path(OWN)}
    return {".".join(("rfwp", *folder.parts)): folder.as_posix() for folder in folders} | {"rfwp": OWN}


def test_pyproject_lists_every_package_on_disk() -> None:
    assert set(SETUPTOOLS["packages"]) == packages_on_disk().keys()


def test_pyproject_maps_every_top_level_folder() -> None:
    top = {package: folder for package, folder in packages_on_disk().items() if package.count(".") <= 1}
    assert SETUPTOOLS["package-dir"] == top


def test_every_package_but_cuda_has_an_init_file() -> None:
    files = packaged_files()
    assert {folder for folder in packages_on_disk().values() if f"{folder}/__init__.py" not in files} <= {"cuda"}


def test_cuda_leaves_room_for_nvidias_namespace_package() -> None:
    assert not (ROOT / "cuda" / "__init__.py").exists()
    assert not {path.stem for path in (ROOT / "cuda").glob("*")} & TAKEN_BY_NVIDIA


def test_import_cuda_in_the_repository_root_does_not_find_a_package_of_ours() -> None:
    check = """
import importlib.util, sys
spec = importlib.util.find_spec("cuda")
sys.exit(spec is not None and spec.has_location)
"""
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT, timeout=300).returncode == 0


def test_one_version_everywhere() -> None:
    released = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released is not None
    assert __version__ == metadata.version("rfwp") == released[1]


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in pins}


def test_constraints_pin_exact_versions_from_any_index() -> None:
    for pin in constraints().values():
        assert pin.url is None
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin


def test_constraints_pin_every_dependency_within_its_bounds() -> None:
    pins = constraints()
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]
    for requirement in map(Requirement, wanted):
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(next(iter(pin.specifier)).version), pin


def test_the_docs_name_every_core_and_game() -> None:
    tables, lists = (ROOT / "docs" / "cores.md").read_text(), (ROOT / "docs" / "environments.md").read_text()
    cores = {path.stem for path in (ROOT / "models" / "cores").glob("*.py")} - {"__init__"}
    assert cores == set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE))
    games = lists.partition("## Atari")[2].partition("Any common spelling")[0]
    assert sorted(GAMES) == re.findall(r"`(\w+)`", games)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout, so that nothing left in build/ can slip into it."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        copy(ROOT / name, source)
    for folder in FOLDERS:
        if (ROOT / folder).exists():
            copytree(ROOT / folder, source / folder, ignore=ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", str(target)]
    subprocess.run([*pip, *options, str(source)], check=True, timeout=300)
    (built,) = target.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {f"rfwp/{name.removeprefix(f'{OWN}/')}" for name in packaged_files()}


@pytest.mark.slow
def test_every_module_of_the_wheel_can_be_imported(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    modules = sorted(
        ".".join(path.relative_to(tmp_path).with_suffix("").parts).removesuffix(".__init__")
        for path in (tmp_path / "rfwp").rglob("*.py")
    )
    assert modules
    # Without `site`, no .pth file leads back to the checkout; the dependencies come from a plain path.
    check = f"""
import importlib
for name in {modules}:
    file = importlib.import_module(name).__file__
    assert file.startswith({str(tmp_path)!r}), file
"""
    path = f"{tmp_path}:{sysconfig.get_path('purelib')}:{sysconfig.get_path('platlib')}"
    subprocess.run([sys.executable, "-S", "-c", check], cwd=tmp_path, env={"PYTHONPATH": path}, check=True, timeout=300)
