"""A file that keeps what waits for Redis: in order, and safe when the process is killed.

It is an SQLite database in WAL mode, which several processes may share. What is appended survives the death of the
process at once, and that of the machine after `Spool.sync`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from connectbot.errors import SpoolUnusable
from connectbot.redis_client import Command

BUSY_SECONDS: Final = 1.0
"""How long one process waits for another to finish writing: that takes less than a millisecond."""
AGAIN_SECONDS: Final = 0.01

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS parcel (
        number INTEGER PRIMARY KEY AUTOINCREMENT, ref TEXT, spooled_at REAL NOT NULL, body BLOB NOT NULL);
    CREATE INDEX IF NOT EXISTS parcel_ref ON parcel (ref, number) WHERE ref IS NOT NULL;
    CREATE TABLE IF NOT EXISTS self (id TEXT PRIMARY KEY);
"""


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Commands to be carried out together, once.

    ``id`` and ``sender`` (a key) are set when they have been sent already, with an answer that never came.
    """

    commands: tuple[Command, ...]
    sender: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Spooled:
    """A parcel in the spool."""

    number: int
    parcel: Parcel


class Spool:
    """One such file, opened by who first needs it; may be used by several threads. Every method raises `SpoolUnusable`.

    ``room`` is how many parcels it may hold. ``id`` is the name of the spool itself, once it has been opened.
    """

    def __init__(self, path: str, *, room: int) -> None:
        self.id = ""
        self._path = path
        self._room = room
        self._lock = threading.Lock()
        self._file: sqlite3.Connection | None = None
        self._is_closed = False
        with _fork_lock:
            _spools.add(self)

    def append(self, parcel: Parcel, *, now: float, ref: str | None = None) -> None:
        """Keep a parcel, after all the others. ``ref`` names what it is about, for `latest`."""
        body = _encoder.encode(parcel)
        with self._using() as file, file:
            if _count(file) >= self._room:
                raise SpoolUnusable(f"the spool {self._path} is full ({self._room} parcels): see that Redis comes back")
            file.execute("INSERT INTO parcel (ref, spooled_at, body) VALUES (?, ?, ?)", (ref, now, body))

    def is_empty(self) -> bool:
        """Whether nothing waits."""
        with self._using() as file:
            return file.execute("SELECT 1 FROM parcel LIMIT 1").fetchone() is None

    def first(self, *, limit: int, most_bytes: int) -> list[Spooled]:
        """The first parcels, at most ``limit``, and no more than ``most_bytes`` unless it is one."""
        found: list[Spooled] = []
        size = 0
        with self._using() as file:
            for number, body in file.execute("SELECT number, body FROM parcel ORDER BY number LIMIT ?", (limit,)):
                size += len(body)
                if found and size > most_bytes:
                    break
                found.append(Spooled(number, _decoder.decode(body)))
        return found

    def drop(self, *, up_to: int) -> None:
        """Forget the parcels up to a number: they have been delivered."""
        with self._using() as file, file:
            file.execute("DELETE FROM parcel WHERE number <= ?", (up_to,))

    def latest(self, ref: str) -> Parcel | None:
        """The last parcel about something; None when nothing about it waits."""
        with self._using() as file:
            row = file.execute("SELECT body FROM parcel WHERE ref = ? ORDER BY number DESC LIMIT 1", (ref,)).fetchone()
        return None if row is None else _decoder.decode(row[0])

    def refs(self, *, starting: str) -> list[str]:
        """What parcels are about, as far as it begins with ``starting``."""
        with self._using() as file:
            rows = file.execute(
                "SELECT DISTINCT ref FROM parcel WHERE ref >= ?1 AND ref < ?1 || char(0x10FFFF)", (starting,)
            ).fetchall()
        return [ref for (ref,) in rows]

    def waiting(self) -> tuple[int, float | None]:
        """How many parcels wait, and since when the first does (epoch seconds)."""
        with self._using() as file:
            first = file.execute("SELECT spooled_at FROM parcel ORDER BY number LIMIT 1").fetchone()
            return _count(file), first and first[0]

    def sync(self) -> None:
        """Write through to the disk what has been appended."""
        with self._using() as file:
            file.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._is_closed = True
            self._close_file()

    def before_fork(self) -> None:
        """Close the file until the process has forked: SQLite would count on locks that a child does not inherit."""
        self._lock.acquire()
        self._close_file()

    def after_fork(self) -> None:
        """Go on, in the parent and in the child; whoever needs the file opens it."""
        self._lock.release()

    # --- inside ---------------------------------------------------------------------------------------

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._translated():
            if self._is_closed:
                raise sqlite3.ProgrammingError("it is closed")
            if self._file is None:
                self._file, self.id = _open(self._path)
            yield self._file

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, msgspec.DecodeError) as error:
            raise SpoolUnusable(f"the spool {self._path} cannot be used: {error}; correct CONNECTBOT_SPOOL") from error


def _count(file: sqlite3.Connection) -> int:
    """How many parcels wait, whose numbers have no gaps: counting them would take longer the more there are."""
    # Asked for both at once, SQLite looks at every parcel.
    row = file.execute("SELECT (SELECT max(number) FROM parcel) - (SELECT min(number) FROM parcel) + 1").fetchone()
    return int(row[0] or 0)


def _identify(file: sqlite3.Connection) -> str:
    """The name of the spool itself, given to it by who opens it first."""
    with file:
        file.execute("BEGIN IMMEDIATE")
        row = file.execute("SELECT id FROM self").fetchone()
        if row is None:
            row = (uuid.uuid4().hex,)
            file.execute("INSERT INTO self (id) VALUES (?)", row)
    return str(row[0])


def _open(path: str) -> tuple[sqlite3.Connection, str]:
    """Open the file, making it when it is not there; answers its id, too.

    Several processes that make it at once get in each other's way.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return _open_once(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(AGAIN_SECONDS)


def _open_once(path: str) -> tuple[sqlite3.Connection, str]:
    # What is in it may be personal. SQLite gives its other files the same mode.
    with suppress(FileExistsError):  # opening one that exists would take SQLite's locks away from this process
        os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
    file = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        file.execute("PRAGMA journal_mode = WAL").fetchall()
        file.execute("PRAGMA synchronous = NORMAL")
        file.executescript(_SCHEMA)
        return file, _identify(file)
    except BaseException:
        file.close()
        raise


def _plain(word: object) -> str:
    """Text of a class of its own, such as Django's ``SafeString``, as text."""
    if isinstance(word, str):
        return str.__str__(word)
    raise TypeError(f"{type(word).__name__} is no word of a command to Redis")


_encoder = msgspec.msgpack.Encoder(enc_hook=_plain)
_decoder = msgspec.msgpack.Decoder(Parcel)


# --- forks ----------------------------------------------------------------------------------------------


def _before_fork() -> None:
    _fork_lock.acquire()  # two threads may fork at once
    _forking.extend(_spools)
    for spool in _forking:
        spool.before_fork()


def _after_fork() -> None:
    while _forking:
        _forking.pop().after_fork()
    _fork_lock.release()


_fork_lock = threading.Lock()
_spools: weakref.WeakSet[Spool] = weakref.WeakSet()
_forking: list[Spool] = []
"""Those that are held while the process forks: none of them may be collected or made meanwhile."""
os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
