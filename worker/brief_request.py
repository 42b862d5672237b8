"""What is shown of the arguments of a task that was enqueued: ids and short words, and nothing of what people are like.

Flower, ``celery inspect`` and Celery's log lines show them to whoever may look; those of matching.request hold
employees with all that is known of them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from typing import Any, Final

from worker.task_counts import CountedRequest

MOST_ITEMS: Final = 10
LONGEST_TEXT: Final = 40


class _Brief(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlist = self.maxtuple = self.maxset = MOST_ITEMS
        self.maxstring = self.maxother = self.maxlong = LONGEST_TEXT

    def repr_dict(self, x: Mapping[Any, Any], level: int) -> str:
        return f"{{{len(x)} fields}}"


_brief: Final = _Brief()


def brief(args: Any, kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """Arguments by position and by name, as they may be shown."""
    told = (f"{_brief.repr(name)}: {_brief.repr(value)}" for name, value in kwargs.items())
    return _brief.repr(tuple(args)), f"{{{', '.join(told)}}}"


class BriefRequest(CountedRequest):
    """What stands for such a task in the worker's main process (Celery: ``Task.Request``)."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        # Not what the sender says of them: Celery's own senders tell up to 1,024 characters of everything.
        self._argsrepr, self._kwargsrepr = brief(self.args, self.kwargs)

    def info(self, safe: bool = False) -> Any:
        """What ``celery inspect active`` tells of it; Celery itself would give the arguments in full."""
        return super().info(safe=True)
