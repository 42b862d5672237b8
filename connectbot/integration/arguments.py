"""What v21's callers pass and cannot be used: said by the argument and its type, never by its value."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, SupportsFloat

from connectbot.errors import UnreadableValue

_NO_FORM: Final = (TypeError, ValueError, AttributeError, RecursionError, pickle.PicklingError)
"""What ``json`` and ``pickle`` raise. Only the text of a `TypeError` of ``json`` is sure to name nothing but types."""


def as_seconds(timeout: object) -> float:
    """A timeout, which is a number of seconds, as Django's cache has it. Raises `UnreadableValue` for anything else."""
    with suppress(TypeError, ValueError, OverflowError):
        if isinstance(timeout, SupportsFloat) and abs(seconds := float(timeout)) < math.inf:
            return seconds
    kind = timeout if isinstance(timeout, float) else f"of type {type(timeout).__name__}"
    raise UnreadableValue(f"timeout must be a number of seconds, and is {kind}")


@contextmanager
def writing(argument: str, value: object, *, in_json: bool) -> Iterator[None]:
    """Around what writes ``value``: raises `UnreadableValue` when JSON (``in_json``) or pickle has no form for it."""
    try:
        yield
    except _NO_FORM as error:
        cause = str(error) if in_json and isinstance(error, TypeError) else type(error).__name__
        # Not chained: the error's text may quote the value.
        raise UnreadableValue(
            f"{argument} (of type {type(value).__name__}) cannot be kept: {cause}; "
            "make it plain data: text, numbers, lists and dicts"
        ) from None
