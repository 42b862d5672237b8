"""The form of log lines: JSON for machines, or readable on a terminal; the same for our lines and those of others.

The code logs by the standard `logging`; structlog renders what comes out. What a line is about (``event_id``,
``task_id``, ``lane``, ``attempt``, ``request_id``) is said once, with `about`, and is then on every line in between,
whoever writes it. In Django: ``LOGGING = connectbot.log.config()``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final

import msgspec

FORMS: Final = ("auto", "json", "console")
LONGEST_TEXT: Final = 200

_about: ContextVar[Mapping[str, Any]] = ContextVar("about", default=MappingProxyType({}))


@contextmanager
def about(**fields: Any) -> Iterator[None]:
    """Put fields on every line written inside; those that are None or empty are left out.

    Text is cut: an id comes from outside, and may be of any length.
    It holds for this thread. What is handed to others takes it along in a copy of the context (`contextvars`).
    """
    told = {name: _cut(value) for name, value in fields.items() if value not in (None, "")}
    token = _about.set({**_about.get(), **told})
    try:
        yield
    finally:
        _about.reset(token)


def config(
    *, form: str = "auto", level: int | str = "INFO", file: str | None = None, processors: Sequence[Any] = ()
) -> dict[str, Any]:
    """A configuration for `logging.config.dictConfig`.

    ``form`` is one of `FORMS`; ``file`` takes the lines in place of standard error. ``processors`` are structlog's,
    and may add fields; the record is ``event_dict["_record"]``.
    """
    handler: dict[str, Any] = {"class": "logging.StreamHandler"}
    if file:
        handler = {"class": "logging.handlers.WatchedFileHandler", "filename": file, "encoding": "utf-8"}
    formatter = {"()": "connectbot.log.formatter", "form": _decide(form, file), "processors": tuple(processors)}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"connectbot": formatter},
        "handlers": {"connectbot": {**handler, "formatter": "connectbot"}},
        "root": {"level": level, "handlers": ["connectbot"]},
        # Django gives these handlers of their own: their lines would come in another form, or twice.
        "loggers": {name: {"handlers": [], "propagate": True} for name in ("django", "django.server")},
    }


def formatter(form: str, processors: Sequence[Any] = ()) -> Any:
    """structlog's formatter for ``json`` or ``console``, as a `logging.Formatter`."""
    import structlog  # here: programs that never log through it import this file, too

    exceptions: list[Any] = [structlog.processors.format_exc_info]
    renderer: Any = structlog.processors.JSONRenderer(serializer=_as_json)
    if form == "console":
        plain = structlog.dev.plain_traceback  # the others show the values of variables
        exceptions, renderer = [], structlog.dev.ConsoleRenderer(exception_formatter=plain, event_key="message")
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            _say_what_about,
            *processors,
        ],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            *exceptions,
            structlog.processors.EventRenamer("message"),
            renderer,
        ],
    )


def _cut(value: Any) -> Any:
    return value[:LONGEST_TEXT] if isinstance(value, str) else value


def _decide(form: str, file: str | None) -> str:
    if form != "auto":
        return form
    return "console" if file is None and sys.stderr is not None and sys.stderr.isatty() else "json"


def _say_what_about(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    line.update(_about.get())
    return line


def _as_json(line: Any, **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()
