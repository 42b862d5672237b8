"""JSON as v21 keeps it in the cache: text, written and read by Python's own ``json``.

msgspec is quicker, but knows neither NaN nor integers beyond 64 bits nor lone surrogates, and v21 stores them.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from connectbot.errors import UnreadableValue


def dumps(value: object) -> str:
    """The JSON text of a value; dates, UUIDs and the like become text.

    Raises `TypeError` or `ValueError` when JSON has no form for it.
    """
    return json.dumps(value, ensure_ascii=False, default=msgspec.to_builtins)


def loads(text: object) -> Any:
    """The value of a JSON text out of the cache. Raises `UnreadableValue`."""
    if not isinstance(text, str):
        raise UnreadableValue(f"it should be JSON text, and is of type {type(text).__name__}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # Not chained: the error holds the whole text.
        raise UnreadableValue(f"its JSON is damaged ({type(error).__name__})") from None
