"""The lines of Celery, of redbeat, of Flower and of the worker's own code, in one form."""

from __future__ import annotations

import logging
import logging.config
from collections.abc import MutableMapping
from typing import Any, Final

import click
from celery._state import get_current_task
from celery.app import trace
from celery.signals import import_modules, setup_logging
from celery.worker.consumer import consumer

from connectbot import log
from connectbot.settings import Settings
from worker.bootstep import EventConsumers
from worker.routing import event_tasks

ABOUT_ORDERS: Final = ("celery.worker.strategy", "celery.app.trace")
"""The loggers that write a line when a task comes in and one when it is done."""

# As Celery has them, but without what the task has returned: that may be anybody's data.
trace.LOG_SUCCESS = "Task %(name)s[%(id)s] succeeded in %(runtime)ss"

# As Celery has them, but with the size of a message in place of what it says; its headers quote the arguments.
_strange: Any = consumer
_strange.dump_body = lambda message, _body: f"{len(message.body)} bytes"
_strange.UNKNOWN_TASK_ERROR = "There is no task %s here: a message of %s is discarded.%.0s%.0s"
_strange.MESSAGE_REPORT = "{0}, {1}"


class WithoutOrders(logging.Filter):
    """Leaves out that an order came and went: a line for each would cost more than the order, and tells nothing.

    What becomes of events is told by their own lines, and counted in ``/metrics``. At DEBUG all are there.
    """

    def __init__(self, names: frozenset[str]) -> None:
        super().__init__()
        self._names = names

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is to be written."""
        if record.levelno != logging.INFO or logging.getLogger().level <= logging.DEBUG:
            return True
        data = getattr(record, "data", None)
        return not (isinstance(data, dict) and data.get("name") in self._names)


def name_task(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the task on the line: the one that Celery's own line tells of, else the one that runs here."""
    data = getattr(line.get("_record"), "data", None)
    if isinstance(data, dict) and "id" in data:
        line.setdefault("task_id", data["id"])
        line.setdefault("task", data.get("name"))
    elif (task := get_current_task()) is not None and task.request.id:
        line.setdefault("task_id", task.request.id)
        line.setdefault("task", task.name)
    return line


@setup_logging.connect
def configure(loglevel: int, logfile: str | None = None, **_: Any) -> None:
    """Celery begins to log, at ``loglevel``, to ``logfile`` or standard error."""
    settings = Settings.load()
    logging.config.dictConfig(
        log.config(form=settings.log_format, level=loglevel, file=logfile or None, processors=[name_task])
    )
    orders = WithoutOrders(frozenset(task.name for task in event_tasks(EventConsumers.routes)))
    for name in ABOUT_ORDERS:
        logging.getLogger(name).addFilter(orders)
    # At DEBUG, Celery's pool writes the arguments of every task, and those of matching.request name employees.
    logging.getLogger("celery.pool").setLevel(logging.INFO)


@import_modules.connect
def configure_flower(**_: Any) -> None:
    """Flower has its own way to log, and sends no signal of it; but as its last step it has Celery import the tasks."""
    command = click.get_current_context(silent=True)
    if command is not None and command.info_name == "flower":
        configure(logging.getLogger().level)  # as ``--logging`` and ``--debug`` say
