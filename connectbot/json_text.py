"""JSON as v21 keeps it in the cache: text, written and read by Python's own ``json``.

msgspec is quicker, but knows neither NaN nor integers beyond 64 bits nor lone surrogates, and v21 stores them.
"""

from __future__ import annotations

import json
from typing import Any, Final

import msgspec

from connectbot.errors import UnreadableValue

_BINARY: Final = (bytes, bytearray, memoryview)


def dumps(value: object) -> str:
    """The JSON text of a value; dates, UUIDs and the like become text, sets and tuples lists.

    Raises `TypeError` or `ValueError` when JSON has no form for it. It has none for bytes: as text they would be
    taken for somebody's text by who reads it.
    """
    return json.dumps(value, ensure_ascii=False, default=_as_json)


def loads(text: object) -> Any:
    """The value of a JSON text out of the cache. Raises `UnreadableValue`."""
    if not isinstance(text, str):
        raise UnreadableValue(f"it should be JSON text, and is of type {type(text).__name__}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        # Not chained: the error holds the whole text.
        raise UnreadableValue(f"its JSON is damaged ({type(error).__name__})") from None


def _as_json(value: object) -> object:
    if isinstance(value, _BINARY):
        raise TypeError(f"JSON has no form for {type(value).__name__}, only for text such as its hex()")
    return msgspec.to_builtins(value, builtin_types=_BINARY)
