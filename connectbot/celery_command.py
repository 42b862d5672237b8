"""``celery -A worker connectbot ...``: our commands in Celery's own command line, by its entry point.

Celery loads this in every environment where the package is installed, also in that of a Django site with a Celery app
of its own. So it imports nothing of the worker, which would enter its tasks and its logging there, until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class _Deferred(click.Command):
    """Stands in for the group of ``worker.cli`` until it is called."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the real one, so that everything after this is done by it."""
        real: click.Group = import_module("worker.cli").connectbot
        return real.make_context(info_name, args, parent, **extra)


connectbot = _Deferred("connectbot", help="The commands of the ConnectBot worker.", add_help_option=False)
