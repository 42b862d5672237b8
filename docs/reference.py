"""The reference pages, made from the code each time the documentation is built (mkdocs: ``hooks``): they cannot drift.

A page is a function that answers Markdown; `PAGES` lists them. Nothing here needs a Redis.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from unittest.mock import MagicMock, patch

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from connectbot import cache_keys, events, keys
from connectbot.settings import Settings
from connectbot.watching.ages import Ages
from connectbot.watching.figures import Figures, LaneFigures
from connectbot.watching.processes import Process
from worker import metrics, task_counts
from worker.app import TASKS
from worker.cli import connectbot
from worker.pulse import Pulses
from worker.routing import ROUTES

ROOT: Final = Path(__file__).parent.parent
INCLUDED: Final = {"redis-acl.md": "deploy/redis-acl/README.md"}
"""Pages that live elsewhere in the repository: their place in the site, and where they are."""
GENERATED: Final = {
    "reference/settings.md": "README.md#settings",
    "reference/commands.md": "worker/cli.py",
    "reference/metrics.md": "worker/metrics.py",
}
"""Pages that exist in the site only: their place in it, and what else a link in the repository leads to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by mkdocs when it has found the pages that are files."""
    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    for name, path in INCLUDED.items():
        files.append(File.generated(config, name, content=(ROOT / path).read_text()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Called by mkdocs for each page: links to what is included lead to the page in the site."""
    for name, path in (INCLUDED | GENERATED).items():
        markdown = markdown.replace(f"](../{path})", f"]({name})")
    return markdown


# --- the pages ----------------------------------------------------------------------------------------


def settings_page() -> str:
    """Every setting, with the meaning of unset."""
    rows = [(f"`{f.metadata['variable']}`", f.metadata["meaning"]) for f in dataclasses.fields(Settings)]
    return _page(
        "Settings",
        "From the environment, or from a `.env` file in the current directory or the nearest one above it (in a Django "
        "site, first in the folder of its settings module, where its own `config` looks); the "
        "environment wins.",
        _table(("variable", "meaning"), rows),
    )


def commands_page() -> str:
    """Every command of ``connectbot`` with its options."""
    return _page("Commands", *_commands(connectbot, None))


def keys_page() -> str:
    """Every key in Redis, with its type and lifetime."""
    own = [
        (_pattern(member, keys.Keys()), _text(member.fget if isinstance(member, property) else member))
        for name, member in vars(keys.Keys).items()
        if not name.startswith("_") and (isinstance(member, property) or inspect.isfunction(member))
    ]
    cached = [
        (f"`{_filled(function)}`", _text(function))
        for name, function in vars(cache_keys).items()
        if name.endswith("_key") and inspect.isfunction(function)
    ]
    return _page(
        "Keys in Redis",
        "## The worker's own\n\nThey begin with `CONNECTBOT_NAMESPACE`, here `connectbot`.",
        _table(("key", "type, meaning, lifetime"), own),
        "## In Django's cache\n\nRedis sees them as `{CACHE_KEY_PREFIX}:{CACHE_VERSION}:{key}`.",
        _table(("key", "meaning, lifetime"), cached),
    )


def metrics_page() -> str:
    """Every metric of ``/metrics``."""
    rows = [
        (f"`{_name(family)}`", family.type, ", ".join(f"`{label}`" for label in labels), family.documentation)
        for family, labels in (*_own_metrics(), *_task_metrics())
        if not family.name.startswith("process_")
    ]
    return _page(
        "Metrics",
        _text(metrics, whole=True),
        "Beside these, each process tells its memory, CPU and open files as `process_…`, as prometheus-client does.",
        _table(("metric", "type", "labels", "meaning"), sorted(rows)),
    )


def events_page() -> str:
    """Every type of event, who works on it, and every task that can be enqueued."""
    types = [
        (f"`{value}`", f"`{name}`", "<br>".join(_handlers(value)) or "nobody: it is there to be heard")
        for name, value in vars(events.ConnectBotEvents).items()
        if name.isupper()
    ]
    return _page(
        "Events and tasks",
        "An event of another type is acknowledged and counted (`unknown_type`), unless its type begins with "
        f"`{events.USER_ACTION_PREFIX}`.",
        "## Events",
        _table(("type", "`ConnectBotEvents.`", "worked on by"), types),
        "## Tasks\n\nBy `.delay()`, `send_task()`, `connectbot.enqueue()` or the schedule.",
        _table(("task", "what it does"), list(_tasks())),
    )


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings": settings_page,
    "commands": commands_page,
    "keys": keys_page,
    "metrics": metrics_page,
    "events": events_page,
}


# --- commands -----------------------------------------------------------------------------------------


def _commands(command: click.Command, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=command.name, parent=parent)
    if command.hidden:
        return
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"## {context.command_path}\n\n```text\n{usage}\n```"
    yield from map(_paragraph, inspect.cleandoc(command.help or "").split("\n\n"))
    records = [param.get_help_record(context) for param in command.get_params(context)]
    yield _table(("option", "meaning"), [(f"`{record[0]}`", record[1]) for record in records if record and record[1]])
    yield from map(_paragraph, inspect.cleandoc(command.epilog or "").split("\n\n"))
    for name in command.list_commands(context) if isinstance(command, click.Group) else ():
        yield from _commands(command.commands[name], context)


def _paragraph(text: str) -> str:
    """A paragraph of a command's help; one that begins with \\b keeps its lines."""
    return f"```text\n{text[2:].lstrip()}\n```" if text.startswith("\b\n") else text


# --- keys ---------------------------------------------------------------------------------------------


def _pattern(member: Any, example: keys.Keys) -> str:
    value = member.fget(example) if isinstance(member, property) else _filled(member, example)
    return ", ".join(f"`{one}`" for one in ([value] if isinstance(value, str) else value))


def _filled(function: Callable[..., Any], *first: Any) -> Any:
    """What a function makes of names in braces in place of its arguments."""
    names = list(inspect.signature(function).parameters)[len(first) :]
    return function(*first, *(f"{{{name}}}" for name in names))


# --- metrics ------------------------------------------------------------------------------------------


def _own_metrics() -> Iterator[tuple[Any, tuple[str, ...]]]:
    """What a worker would serve whose Redis is empty."""
    lane = LaneFigures(
        lane="default", lag=0, lag_is_exact=True, pending=0, in_flight=0, oldest_age_seconds=0, delayed=0, parked=0,
        oldest_parked_age_seconds=0, consumers=(), fallen=(), ages=Ages.read({}),
    )  # fmt: skip
    figures = Figures(
        now=0, lanes=[lane], entries=0, dead=0, last_tick=None, temp_data_due=0, temp_data_overdue=0, users_known=0,
        users_with_menus=0, breaker="", counters={},
    )  # fmt: skip
    process = Process(role="worker", name="worker@host", pid=0)
    with (
        patch.object(metrics, "read_figures", return_value=figures),
        patch.object(metrics, "redis_problems", return_value=[]),
        patch.object(metrics, "tasks_waiting", return_value={}),
    ):
        page = metrics.Metrics(Settings(), process, MagicMock(), Pulses())
        yield from ((family, getattr(family, "_labelnames", ())) for family in page._registry.collect())


def _task_metrics() -> Iterator[tuple[Any, tuple[str, ...]]]:
    for counter in task_counts.registry._collector_to_names:
        yield next(iter(counter.collect())), counter._labelnames


def _name(family: Any) -> str:
    return f"{family.name}_total" if family.type == "counter" else str(family.name)


# --- events and tasks ---------------------------------------------------------------------------------


def _handlers(event_type: str) -> list[str]:
    """The task of each lane that works on a type, and what its handler says of itself."""
    return [
        f"{_text(_handler(route.task))} (`{route.task.name}`, lane `{route.lane}`)"
        for route in ROUTES
        if route.type == event_type
    ]


def _handler(task: Any) -> Any:
    """The plain function around which `event_task` has put a task."""
    return task.work.handle


def _tasks() -> Iterator[tuple[str, str]]:
    """Tasks with arguments of their own; those that take orders of the consumer are no one else's."""
    for module in map(importlib.import_module, TASKS):
        for task in vars(module).values():
            if hasattr(task, "delay") and task.run.__module__ == module.__name__:
                signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(task.run)))
                yield f"`{task.name}{signature}`", _text(task.run, whole=True)


# --- Markdown -----------------------------------------------------------------------------------------


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part for part in parts if part)]) + "\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(word) for word in line) + " |" for line in lines) if rows else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _text(thing: Any, *, whole: bool = False) -> str:
    """The docstring, or its first sentences, as Markdown."""
    text = inspect.getdoc(thing) or ""
    return re.sub(r"`+([^`]+)`+", r"`\1`", text if whole else text.partition("\n\n")[0])
