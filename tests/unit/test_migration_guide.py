"""docs/migrating-from-v21.md tells of every name that a v21 site could use."""

from __future__ import annotations

from importlib import import_module

import pytest

from tests.support import ROOT

GUIDE = (ROOT / "docs" / "migrating-from-v21.md").read_text()
MODULES = (
    "connectbot.integration",
    "connectbot.integration.menu_cache",
    "connectbot.integration.events",
    "connectbot.integration.temp_data",
    "connectbot.compat",
)
NAMES = sorted({name for module in MODULES for name in import_module(module).__all__})
FACADE = ("menu_cache", "menu_builder", "events", "event_types", "temp_data")
CALLS = ("get_user_manager", "health_check", "get_cache_stats", "clear_all_cache")


@pytest.mark.parametrize("name", [*NAMES, *(f".{name}" for name in (*FACADE, *CALLS))])
def test_it_tells_of(name: str) -> None:
    assert f"`{name}`" in GUIDE or f"`{name}(" in GUIDE


@pytest.mark.parametrize("module", MODULES)
def test_it_shows_the_line_for_each_file_as_the_example_has_it(module: str) -> None:
    line = f"from {module} import *"
    assert f"`{line}`" in GUIDE
    files = (ROOT / "examples" / "django_site" / "employees").glob("redis_*.py")
    assert [file.name for file in files if line in file.read_text()] != []
