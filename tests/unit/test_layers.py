"""The arrows between the packages: worker → tasks → connectbot, and nothing the other way."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectbot.settings import Settings

ROOT = Path(__file__).parents[2]
PACKAGES = ("connectbot", "tasks", "worker")

IMPORT_ALL = """
import importlib, json, sys
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(sorted(name for name in sys.modules if "." not in name)))
"""

AS_A_WORKER_LOADS = """
import sys
from worker.app import app
app.loader.import_default_modules()
app.conf.timezone  # reads worker/config.py
print(*sorted(name for name in sys.modules if name.startswith(("connectbot.", "sqlite3"))))
"""


@pytest.fixture(scope="module")
def imported_with_connectbot() -> set[str]:
    """The top-level modules that a fresh Python holds after importing all of ``connectbot``."""
    modules = [_module(path) for path in _files("connectbot")]
    # connectbot.django is the one part that is for Django. A __main__ is run, never imported.
    modules = [name for name in modules if not name.startswith("connectbot.django") and "__main__" not in name]
    command = [sys.executable, "-c", IMPORT_ALL, *modules]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.fixture(scope="module")
def attributes_read() -> set[str]:
    """Every attribute that the three packages read, other than to check settings when they are made."""
    return {
        node.attr
        for package in PACKAGES
        for path in _files(package)
        for node in ast.walk(_without_checks(_tree(path)))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@pytest.mark.parametrize("other", ["celery", "kombu", "billiard", "django", "django_redis", "tasks", "worker"])
def test_importing_connectbot_does_not_import(other: str, imported_with_connectbot: set[str]) -> None:
    assert "connectbot" in imported_with_connectbot
    assert other not in imported_with_connectbot


def test_a_worker_does_not_load_what_is_for_the_site() -> None:
    """Each of its processes would hold it in memory."""
    command = [sys.executable, "-c", AS_A_WORKER_LOADS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = done.stdout.split()
    assert "connectbot.stream" in loaded
    for_the_site = (
        "connectbot.integration",
        "connectbot.offline",
        "connectbot.django",
        "connectbot.testing",
        "sqlite3",
    )
    assert [name for name in loaded if name.startswith(for_the_site)] == []


@pytest.mark.parametrize(("package", "others"), [("connectbot", {"tasks", "worker"}), ("tasks", {"worker"})])
def test_imports_point_one_way_inside_functions_too(package: str, others: set[str]) -> None:
    against = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in _files(package)
        for line, name in _imports(_tree(path))
        if name.partition(".")[0] in others
    ]
    assert against == []


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Settings)])
def test_every_setting_is_read_somewhere(name: str, attributes_read: set[str]) -> None:
    assert name in attributes_read, f"nothing reads Settings.{name}: it promises what nobody does"


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of each module that a file imports, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module


def _without_checks(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            node.body = [part for part in node.body if getattr(part, "name", None) != "__post_init__"]
    return tree
