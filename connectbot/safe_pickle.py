"""Reading pickles that hold plain data, and no others.

A pickle is a program. ``pickle.loads`` runs it, with any function it names; here, `pickletools.genops` splits it
into its operations and only those below have a meaning. No name leads to an import: the few types that may be
named are looked up in a table.
"""

from __future__ import annotations

import pickletools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

from connectbot.errors import UnreadableValue

MAX_OPERATIONS: Final = 2_000_000
"""One byte of a pickle can make an object of 200: this bounds the memory at some 400 MB, and the time at a second."""
MAX_ODD_KEYS: Final = 5000
"""Keys that are neither text nor numbers of usual size may be chosen to have one hash all together: then the time that
a dict or set takes for them grows with the square of their number, and no other thread runs meanwhile."""


def loads(data: bytes) -> object:
    """The plain value that a pickle holds.

    Plain are None, bool, int, float, str, bytes, bytearray, list, tuple, dict, set, frozenset, ``ZoneInfo`` and the
    types in `MAKERS`, exactly these and no subclass. Tuples used as keys or in sets must not contain tuples. Bytes,
    sets and dates need a pickle of protocol 4 or later, which is Python's default.

    Raises `UnreadableValue` for anything else, naming what it refuses.
    """
    try:
        return _Machine().run(data)
    except (ArithmeticError, AttributeError, LookupError, MemoryError, TypeError, ValueError) as error:
        # Not chained: the error's text may quote the data.
        raise UnreadableValue(f"the pickle is damaged ({type(error).__name__})") from None


def _bytearray(content: bytes = b"") -> bytearray:
    return bytearray(_of_type(bytes, content))  # a number would ask for that much memory


def _decimal(text: str) -> Decimal:
    return Decimal(_of_type(str, text))


def _uuid() -> UUID:
    return UUID(int=0)  # the number follows, in BUILD


def _zone(key: str, from_cache: int) -> ZoneInfo:
    if type(from_cache) not in (bool, int) or not _ZONE_KEY.fullmatch(_of_type(str, key)):
        raise TypeError
    try:
        return _zone_of_this_machine(key)
    except (LookupError, OSError, ValueError):
        raise UnreadableValue("the pickle names a time zone that this machine does not have: update tzdata") from None


@cache  # there are some 600: ZoneInfo itself forgets them, and 40 µs each, again and again, would be many seconds
def _zone_of_this_machine(key: str) -> ZoneInfo:
    return ZoneInfo(key)


# From the bytes of a pickle dates are made without any check; replace() makes them again, with all checks.
MAKERS: Final[dict[str, Callable[..., object]]] = {
    "builtins bytearray": _bytearray,
    "datetime date": lambda *parts: date(*parts).replace(),
    "datetime datetime": lambda *parts: datetime(*parts).replace(),  # noqa: DTZ001  the zone is among the parts
    "datetime time": lambda *parts: time(*parts).replace(),
    "datetime timedelta": timedelta,
    "datetime timezone": timezone,
    "decimal Decimal": _decimal,
    "uuid UUID": _uuid,
}
"""The types that a pickle may name, as ``module name``, and what makes one from the arguments in the pickle."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A name of `MAKERS` or `_TOWARDS_ZONES` on the stack: good for making a value, not a value itself."""

    name: str


# How a pickle names what makes a ZoneInfo: getattr(zoneinfo.ZoneInfo, "_unpickle"). No other use of getattr is read.
_GETATTR: Final = _Named("builtins getattr")
_ZONE: Final = _Named("zoneinfo ZoneInfo")
_OF_ZONE: Final = _Named("(zoneinfo.ZoneInfo, '_unpickle')")
_MAKE_ZONE: Final = _Named("zoneinfo ZoneInfo._unpickle")
_TOWARDS_ZONES: Final = frozenset({_GETATTR.name, _ZONE.name})
_ZONE_KEY: Final = re.compile(r"[\w+-]{1,30}(/[\w+-]{1,30}){0,3}", re.ASCII)
"""Never the way to a file outside of the database of time zones."""


@dataclass(slots=True)
class _Machine:
    stack: list[Any] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    odd_keys: int = 0

    def run(self, data: bytes) -> object:
        for count, (operation, argument, _) in enumerate(pickletools.genops(data)):
            name = operation.name
            if count > MAX_OPERATIONS:
                raise UnreadableValue(f"refused a pickle with more than {MAX_OPERATIONS} operations")
            if name in _LITERALS:
                self.stack.append(argument)
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in _WITHOUT_EFFECT:
                raise UnreadableValue(f"refused a pickle with the operation {name}: plain data needs none")
        return _values(self.stack)[-1]

    def top(self, kind: type) -> Any:
        return _of_type(kind, self.stack[-1])

    def pop(self) -> Any:
        return self.stack.pop()

    def pop_many(self, count: int) -> list[Any]:
        return self._pop_from(len(self.stack) - count)

    def pop_to_mark(self) -> list[Any]:
        return self._pop_from(self.marks.pop())

    def _pop_from(self, start: int) -> list[Any]:
        if start < 0:
            raise IndexError
        items = self.stack[start:]
        del self.stack[start:]
        return _values(items)

    # --- operations -----------------------------------------------------------------------------------

    def push_mark(self) -> None:
        self.marks.append(len(self.stack))

    def extend_list(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def update_dict(self, items: list[Any]) -> None:
        self.top(dict).update(self.pairs(items))

    def update_set(self, items: list[Any]) -> None:
        self.top(set).update(self.keys(items))

    def pairs(self, items: list[Any]) -> Iterable[tuple[Any, Any]]:
        return zip(self.keys(items[::2]), items[1::2], strict=True)

    def keys(self, items: list[Any]) -> list[Any]:
        """Items that may be hashed: the hash of deeply nested tuples would overflow the interpreter's own stack."""
        for item in items:
            if type(item) not in _HASHED_AT_RANDOM and not (type(item) is int and item in _OWN_HASHES):
                self.odd_keys += 1
            if type(item) is tuple and tuple in map(type, item):
                raise UnreadableValue("refused a pickle with tuples of tuples as keys or in sets")
        if self.odd_keys > MAX_ODD_KEYS:
            raise UnreadableValue(f"refused a pickle with more than {MAX_ODD_KEYS} keys other than text and numbers")
        return items

    def remember(self, slot: int) -> None:
        self.memo[slot] = self.stack[-1]

    def push_name(self, name: str) -> None:
        if name not in _TOWARDS_ZONES:
            _maker(name)
        self.stack.append(_Named(name))

    def push_name_on_stack(self) -> None:
        module, name = self.pop_many(2)
        self.push_name(f"{_of_type(str, module)} {_of_type(str, name)}")

    def push_pair(self) -> None:
        if self.stack[-2:] == [_ZONE, "_unpickle"]:
            self.stack[-2:] = [_OF_ZONE]
        else:
            self.stack.append(tuple(self.pop_many(2)))

    def make(self) -> None:
        arguments, named = self.pop(), _of_type(_Named, self.pop())
        if named is _MAKE_ZONE:
            self.stack.append(_zone(*_of_type(tuple, arguments)))
        elif named == _GETATTR and arguments is _OF_ZONE:
            self.stack.append(_MAKE_ZONE)
        else:
            self.stack.append(_maker(named.name)(*_of_type(tuple, arguments)))

    def set_number_of_uuid(self) -> None:
        state = _of_type(dict, self.pop())
        number = UUID(int=_of_type(int, state["int"])).int
        self.top(UUID).__setstate__({"int": number})


def _maker(name: str) -> Callable[..., object]:
    if name not in MAKERS:
        raise UnreadableValue(f"refused a pickle that names {name.replace(' ', '.')[:100]!r}: it is no plain data")
    return MAKERS[name]


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError
    return value


def _values(items: list[Any]) -> list[Any]:
    if _Named in map(type, items):
        raise UnreadableValue("refused a pickle that holds a type: it is no plain data")
    return items


_HASHED_AT_RANDOM: Final = (str, bytes)
_OWN_HASHES: Final = range(-(2**60), 2**60)
"""The hash of each of these is the number itself (but for -1): no two are the same."""

_WITHOUT_EFFECT = frozenset({"PROTO", "FRAME", "STOP"})

_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
"""Operations that carry their value with them."""

_ACTIONS: Final[dict[str, Callable[[_Machine, Any], None]]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "MARK": lambda machine, _: machine.push_mark(),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "LIST": lambda machine, _: machine.stack.append(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend_list(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.extend_list(machine.pop_to_mark()),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.stack.append(tuple(machine.pop_many(1))),
    "TUPLE2": lambda machine, _: machine.push_pair(),
    "TUPLE3": lambda machine, _: machine.stack.append(tuple(machine.pop_many(3))),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "DICT": lambda machine, _: machine.stack.append(dict(machine.pairs(machine.pop_to_mark()))),
    "SETITEM": lambda machine, _: machine.update_dict(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.update_dict(machine.pop_to_mark()),
    "EMPTY_SET": lambda machine, _: machine.stack.append(set()),
    "ADDITEMS": lambda machine, _: machine.update_set(machine.pop_to_mark()),
    "FROZENSET": lambda machine, _: machine.stack.append(frozenset(machine.keys(machine.pop_to_mark()))),
    "PUT": lambda machine, slot: machine.remember(slot),
    "BINPUT": lambda machine, slot: machine.remember(slot),
    "LONG_BINPUT": lambda machine, slot: machine.remember(slot),
    "MEMOIZE": lambda machine, _: machine.remember(len(machine.memo)),
    "GET": lambda machine, slot: machine.stack.append(machine.memo[slot]),
    "BINGET": lambda machine, slot: machine.stack.append(machine.memo[slot]),
    "LONG_BINGET": lambda machine, slot: machine.stack.append(machine.memo[slot]),
    "GLOBAL": lambda machine, name: machine.push_name(name),
    "STACK_GLOBAL": lambda machine, _: machine.push_name_on_stack(),
    "REDUCE": lambda machine, _: machine.make(),
    "NEWOBJ": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.set_number_of_uuid(),
}
