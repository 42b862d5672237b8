"""What is installed is what is here: the wheel holds every file of the three packages, and they work from it."""

from __future__ import annotations

import configparser
import importlib.metadata
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PACKAGES = ("connectbot", "tasks", "worker")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the sources, so that nothing is left lying about in the working tree."""
    sources, built = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, sources)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, sources / package, ignore=shutil.ignore_patterns("__pycache__"))
    _run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(sources), cwd=sources)
    [wheel] = built.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel brings; a wheel of pure Python is installed by unpacking it."""
    folder = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert carried == {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_type_checkers_are_told_that_it_is_typed(package: str, installed: Path) -> None:
    assert (installed / package / "py.typed").is_file()


def test_lua_scripts_are_carried(installed: Path) -> None:
    assert (installed / "connectbot" / "lua" / "commit.lua").is_file()


def test_the_wheel_is_for_every_python_and_platform(wheel: Path) -> None:
    assert wheel.name.startswith("connectbot_worker-")
    assert wheel.name.endswith("-py3-none-any.whl")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_imported_from_where_it_was_installed(package: str, installed: Path, tmp_path: Path) -> None:
    said = _run("-c", f"import {package}; print({package}.__file__)", cwd=tmp_path, path=installed)
    assert Path(said.strip()) == installed / package / "__init__.py"


def test_the_oldest_python_can_install_what_is_pinned() -> None:
    """A pin may ask for a later 3.11 than a distribution has: Debian 12 has 3.11.2."""
    refused = []
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        if version and version in _versions(name):
            needed = importlib.metadata.metadata(name).get("Requires-Python", "")
            refused += [f"{line} needs Python {needed}"] if "3.11.0" not in SpecifierSet(needed) else []
    assert not refused


def _versions(name: str) -> list[str]:
    return [found.version for found in importlib.metadata.distributions(name=name)][:1]


def test_the_command_answers(installed: Path, tmp_path: Path) -> None:
    scripts = configparser.ConfigParser()
    [described] = installed.glob("*.dist-info/entry_points.txt")
    scripts.read(described)
    assert dict(scripts["console_scripts"]) == {"connectbot": "worker.cli:main"}
    module, _, function = scripts["console_scripts"]["connectbot"].partition(":")
    said = _run("-c", f"from {module} import {function}; {function}()", "--help", cwd=tmp_path, path=installed)
    assert "demo" in said


def _run(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """What Python prints, run in ``cwd`` with ``path`` as the only addition to its search path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    command: Sequence[str] = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
