"""What must reach Redis: sent at once, or kept in the spool while Redis is away and sent in order when it is back.

As long as anything waits in the spool, whatever is sent goes behind it.
"""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import redis

from connectbot.errors import BacklogFull, Fault, RedisUnavailable, SpoolUnusable
from connectbot.keys import Keys
from connectbot.offline.outage import Outage
from connectbot.offline.spool import Parcel, Spool, Spooled
from connectbot.quick_script import QuickScript
from connectbot.redis_client import Command, RedisClient, cannot_serve, says_not_now, translated_errors

PARCELS_AT_ONCE: Final = 500
BYTES_AT_ONCE: Final = 2 * 1024 * 1024
SENDERS_REMEMBERED_SECONDS: Final = 86_400
"""After a longer outage, an event whose publishing it had broken off could come twice."""

_WRONG_WORDS: Final = re.compile("ERR (?!ACL failure|The user executing the script can't)")
"""So begin answers against the words of a command; those about a key or a permission, which may be mended, do not."""
_INTEGERS: Final = range(-(2**63), 2**63)

_logger = logging.getLogger(__name__)


class Delivery:
    """The way of parcels into Redis, out of ``spool`` or past it. ``room`` is how many entries the stream may hold.

    Its methods raise `RedisUnavailable`, and `BacklogFull` when the stream is full.
    """

    def __init__(self, client: RedisClient, keys: Keys, *, spool: Spool, room: int) -> None:
        self._script = QuickScript(client, "deliver", is_brief=True)
        self._keys = keys
        self._spool = spool
        self._room = room

    def deliver(self, spooled: Sequence[Spooled]) -> tuple[int, str]:
        """Deliver some, in order. A number of 0 stands for one that never was in the spool.

        Answers the number up to which they are delivered, now or before; and what Redis says against the next.
        """
        words: list[Any] = [self._room, self._entries_in(spooled), SENDERS_REMEMBERED_SECONDS]
        for one in spooled:
            words += (one.number, one.parcel.sender, one.parcel.id, len(one.parcel.commands))
            for command in one.parcel.commands:
                words.append(len(command))
                words += command
        with translated_errors():
            last, said = self._script(keys=[self._keys.events, self._keys.spool(self._spool.id)], args=words)
        if last == -1:
            raise BacklogFull.of(self._keys.events, self._room)
        refused = said.decode("utf-8", "replace")
        if says_not_now(error := redis.ResponseError(refused)):
            raise cannot_serve(error)
        return int(last), refused

    def _entries_in(self, spooled: Sequence[Spooled]) -> int:
        commands = (command for one in spooled for command in one.parcel.commands)
        return sum(tuple(command[:2]) == ("XADD", self._keys.events) for command in commands)

    def distrust_connections(self) -> None:
        """Close the connection at hand: it may be half-open."""
        self._script.distrust()


class Outbox:
    """Sends what must not be lost.

    ``spool`` and ``delivery`` serve the callers; ``drain_spool`` and ``drain_delivery`` the thread that calls
    `drain`, so that no caller waits for its disk or its network.
    """

    def __init__(
        self,
        *,
        keys: Keys,
        outage: Outage,
        spool: Spool,
        delivery: Delivery,
        drain_spool: Spool,
        drain_delivery: Delivery,
    ) -> None:
        self._keys = keys
        self._outage = outage
        self._spool = spool
        self._delivery = delivery
        self._drain_spool = drain_spool
        self._drain_delivery = drain_delivery
        self._process = uuid.uuid4().hex
        self._hindrance = ""

    @property
    def hindrance(self) -> str:
        """Why a Redis that is there does not take what waits; empty when it does."""
        return self._hindrance

    def send(self, commands: Sequence[Command], *, now: float, event_id: str = "", ref: str | None = None) -> None:
        """Have some commands carried out together: now, or later and once.

        ``event_id`` is that of the event they publish, if they do. ``ref`` names what they are about, for `latest`.
        ``now`` is in epoch seconds. Raises `BacklogFull`, `SpoolUnusable` when it can neither send nor keep them, and
        `Fault` when Redis would never take them.
        """
        sender = self._keys.last_sent(f"{self._process}:{threading.get_ident()}") if event_id else ""
        parcel = Parcel(tuple(commands), sender, event_id)
        if self._may_send_at_once():
            if self._sent(parcel):
                return
        else:
            parcel = Parcel(parcel.commands)
        parcel = _at(parcel, now)
        _require_words(parcel)  # otherwise it would hold up for ever whatever comes after it
        self._spool.append(parcel, now=now, ref=ref)
        self._outage.look_after()

    def go_on(self) -> None:
        """Have sent what was left in the spool, by a process that has ended perhaps."""
        try:
            is_empty = self._spool.is_empty()
        except SpoolUnusable:
            is_empty = False  # perhaps: the thread tells why it cannot know
        if not is_empty:
            self._outage.look_after()

    def distrust_connections(self) -> None:
        """Close the connections at hand: they may be half-open."""
        self._delivery.distrust_connections()
        self._drain_delivery.distrust_connections()

    def latest(self, ref: str) -> tuple[Command, ...]:
        """The commands about something that came last, as long as they wait."""
        if self._outage.now is None and self._spool.is_empty():
            return ()
        parcel = self._spool.latest(ref)
        return parcel.commands if parcel else ()

    def refs(self, *, starting: str) -> list[str]:
        """What waits, as far as its ``ref`` begins so."""
        return self._spool.refs(starting=starting)

    def waiting(self) -> tuple[int, float | None]:
        """How many parcels wait, and since when the first does (epoch seconds)."""
        return self._spool.waiting()

    def drain(self) -> bool:
        """Send what waits. Answers whether nothing is left. Raises `RedisUnavailable`."""
        try:
            while spooled := self._drain_spool.first(limit=PARCELS_AT_ONCE, most_bytes=BYTES_AT_ONCE):
                # A number that a power cut takes back is given again, and what then has it was never delivered.
                self._drain_spool.sync()
                last, refused = self._drain_delivery.deliver(spooled)
                self._drain_spool.drop(up_to=last)
                self._note(refused)
                if refused:
                    return False
        except (BacklogFull, SpoolUnusable, redis.RedisError) as error:
            self._note(str(error))
            return False
        self._note("")
        return True

    def sync(self) -> None:
        """Write through to the disk what waits. Raises `SpoolUnusable`."""
        self._drain_spool.sync()

    def close(self) -> None:
        """Close the files; what waits in them is sent by whoever opens them next."""
        self._spool.close()
        self._drain_spool.close()

    # --- inside ---------------------------------------------------------------------------------------

    def _may_send_at_once(self) -> bool:
        if self._outage.now is not None:
            return False
        try:
            return self._spool.is_empty()
        except SpoolUnusable:
            return True  # Redis itself may be well

    def _sent(self, parcel: Parcel) -> bool:
        try:
            with self._outage.guarding():
                _, refused = self._delivery.deliver([Spooled(0, parcel)])
        except RedisUnavailable:
            return False
        if _WRONG_WORDS.match(refused):
            raise Fault(f"Redis will never do this: {refused}")
        return not refused

    def _note(self, hindrance: str) -> None:
        if hindrance and hindrance != self._hindrance:
            _logger.warning("what waits in the spool cannot be sent: %s", hindrance)
        self._hindrance = hindrance


def _at(parcel: Parcel, now: float) -> Parcel:
    """The parcel with times at which things run out, instead of times for which they last from ``now``."""
    return Parcel(tuple(_absolute(command, now) for command in parcel.commands), parcel.sender, parcel.id)


def _require_words(parcel: Parcel) -> None:
    """Raise `Fault` for what is no word of a command to Redis, such as a None that somebody took for a key."""
    for word in chain.from_iterable(parcel.commands):
        if not isinstance(word, (bytes, str, float)) and (type(word) is not int or word not in _INTEGERS):
            raise Fault(f"Redis takes no {type(word).__name__} like this: a key, a type or a time is wrong")


def _absolute(command: Command, now: float) -> Command:
    now_ms = int(now * 1000)
    match command:
        case ("SET", key, value, "PX", milliseconds):
            # Redis takes no time before 1970, and all else would wait behind it.
            return ("SET", key, value, "PXAT", max(1, now_ms + milliseconds))
        case ("PEXPIRE", key, milliseconds):
            return ("PEXPIREAT", key, now_ms + milliseconds)
    return command
