"""The stream of events: the only file that knows XREADGROUP and its relatives.

An *entry* is one item of the stream. A *lane* is a consumer group (and the Celery queue of the same name). A
*consumer* is one registration of one worker in a lane: alive while its lease lives, entitled while its fence stands.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import redis

from connectbot.batch_reader import BatchReader
from connectbot.effects import Effects
from connectbot.entries import DEATH, Batch, Entry, TakenOver, entries_of, fields_of
from connectbot.errors import FenceLost, Never
from connectbot.keys import Keys
from connectbot.quick_script import Call, QuickScript
from connectbot.redis_client import Command, RedisClient, one_connection, time_of, translated_errors
from connectbot.scripts import text_of

_MANY = 10_000  # more than lie between the first and the last entry of a batch: these come of one read
_ACKNOWLEDGED_AT_ONCE = 5000  # Lua's ``unpack`` takes some 8,000 words
_MOST_WORDS = 1_000_000  # Redis 6.2 takes 1,048,576 in one command, and closes the connection of who sends more


class EventStream:
    """The stream of one installation.

    Every method raises `RedisUnavailable` when Redis cannot serve.
    """

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._redis = client
        self._keys = keys
        self._reader = BatchReader(client, keys)

    # --- groups and consumers -------------------------------------------------------------------------

    def ensure_lanes(self, lanes: Iterable[str]) -> None:
        """Make each lane's group, hearing all that the stream still holds, where it does not exist."""
        with translated_errors():
            for lane in lanes:
                self._create_group(lane)

    def register(self, lane: str, consumer: str, *, lease_seconds: float) -> None:
        """Make a consumer known, alive and entitled, at once."""
        with translated_errors(), self._redis.pipeline(transaction=True) as pipe:
            pipe.set(self._keys.lease(consumer), lane, px=int(lease_seconds * 1000))
            pipe.hset(self._keys.fences(lane), consumer, repr(time.time()))
            pipe.xgroup_createconsumer(self._keys.events, lane, consumer)
            pipe.execute()

    def renew_lease(self, consumer: str, *, lease_seconds: float) -> bool:
        """Stay alive for some seconds more; False when the lease had run out already."""
        with translated_errors():
            return bool(self._redis.pexpire(self._keys.lease(consumer), int(lease_seconds * 1000)))

    def leave(self, lane: str, consumer: str) -> None:
        """End a registration: what is still pending goes to an heir at once, without waiting for the lease."""
        keys = [self._keys.events, self._keys.fences(lane), self._keys.lease(consumer)]
        with translated_errors():
            self._scripts["leave"](keys=keys, args=[lane, consumer])

    def take_over(self, lane: str, heir: str, *, limit: int) -> TakenOver:
        """Take up to ``limit`` entries from consumers whose lease has run out."""
        with translated_errors():
            fallen, moved = self._scripts["take_over"](
                keys=[self._keys.events, self._keys.fences(lane)],
                args=[lane, heir, self._keys.lease(""), limit],
            )
        return TakenOver(
            tuple(name.decode() for name in fallen),
            tuple(Entry.read(id_, fields_of(words), counted) for id_, words, counted in moved),
        )

    # --- reading --------------------------------------------------------------------------------------

    def read(self, lane: str, consumer: str, *, limit: int, wait_seconds: float) -> list[Entry]:
        """Up to ``limit`` entries that no consumer of the lane has had, waiting for the first of them."""
        group = ("GROUP", lane, consumer, "COUNT", limit, "BLOCK", max(1, int(wait_seconds * 1000)))
        with translated_errors(), one_connection(self._redis) as connection:
            connection.send_command("XREADGROUP", *group, "STREAMS", self._keys.events, ">")
            streams = connection.read_response() or ()
        return [entry for _, rows in streams for entry in entries_of(rows)]

    def fetch_each(self, batch: Batch, *, limit: int | None) -> Generator[list[Entry]]:
        """The entries of a batch, oldest first, in parts of up to ``limit``. Those deleted meanwhile are missing.

        While the caller is at one part, Redis looks for the next. Raises `FenceLost` when others have taken the batch
        over: work on it would be in vain.
        """
        return self._reader.parts(batch, limit=limit or _MANY)

    def fetch(self, batch: Batch) -> list[Entry]:
        """All of them at once."""
        return [entry for part in self.fetch_each(batch, limit=None) for entry in part]

    def deleted_since(self, batch: Batch, *, found: Collection[str]) -> list[str]:
        """Ids of a batch that are pending but no longer in the stream, given the ids that were ``found``."""
        if batch.ids:
            missing = sorted(set(batch.ids) - set(found))
            return [id_ for id_ in missing if self.pending(batch.lane, batch.consumer, limit=1, first=id_, last=id_)]
        with translated_errors():
            there = {id_.decode() for id_, _ in self._redis.xrange(self._keys.events, batch.first, batch.last)}
        pending = self.pending(batch.lane, batch.consumer, limit=_MANY, first=batch.first, last=batch.last)
        return [id_ for id_ in pending if id_ not in there]

    def pending(self, lane: str, consumer: str, *, limit: int, first: str = "-", last: str = "+") -> list[str]:
        """Ids from ``first`` to ``last`` that the consumer has received and not finished."""
        with translated_errors():
            rows = self._redis.xpending_range(self._keys.events, lane, first, last, limit, consumer)
        return [row["message_id"].decode() for row in rows]

    def deliveries(self, batch: Batch) -> dict[str, int]:
        """How often each entry of a batch was delivered, as far as it is still pending."""
        with translated_errors():
            rows = self._redis.xpending_range(
                self._keys.events, batch.lane, batch.first, batch.last, _MANY, batch.consumer
            )
        return {row["message_id"].decode(): row["times_delivered"] % DEATH for row in rows}

    def redeliver(self, batch: Batch) -> list[Entry]:
        """What is left of a batch of a living consumer whose process died; the death is counted against each entry.

        What is deleted from the stream by then is acknowledged. Raises `FenceLost` when others have taken it over.
        """
        left = {entry.id: entry for entry in self.fetch(batch)}
        if len(left) < batch.count:
            self.commit(batch.lane, batch.consumer, self.deleted_since(batch, found=left), Effects())
        rows = self._redeliver(batch, left, to=batch.consumer, counts=1 + DEATH)
        return [Entry.read(id_, left[id_.decode()].fields, counted) for id_, counted in rows]

    # --- finishing ------------------------------------------------------------------------------------

    def commit(self, lane: str, consumer: str, entries: Sequence[str], effects: Effects) -> None:
        """Apply effects and acknowledge the entries (by id) they come from: both or neither.

        Raises `FenceLost` when the entries are not this consumer's any more, and `Never` (``too_much_to_write``) when
        the effects are more than Redis takes at once.
        """
        if entries:
            self._apply(lane, consumer, entries[0], self._finishing(lane, entries, effects))

    def commit_each(self, lane: str, consumer: str, parts: Iterable[tuple[Sequence[str], Effects]]) -> Iterator[None]:
        """Commit the parts of a batch one after the other, as `commit` does; says after each that it is done.

        While Redis is at one part, ``parts`` is asked for the next.
        """
        calls = (self._call(lane, consumer, ids[0], self._finishing(lane, ids, effects)) for ids, effects in parts)
        with translated_errors():
            for is_applied in self._commit_script.each(calls):
                _require(is_applied, lane, consumer)
                yield

    def hand_back(self, batch: Batch) -> None:
        """Give up a batch that no process has begun: it goes to a consumer without a lease, and an heir takes it there.

        Raises `FenceLost` when others have taken it over.
        """
        # Nobody's lease bears that name. Nor was it a delivery: after some, each entry would be handed out alone.
        self._redeliver(batch, [entry.id for entry in self.fetch(batch)], to=f"{batch.consumer}.left", counts=-1)

    def apply(self, effects: Effects) -> None:
        """Apply effects that no entry asked for, in one atomic step."""
        if effects:
            self._apply("", "", "", effects)

    def counting(self, counter: str, by: int = 1) -> Command:
        """The command that raises a counter of the installation, as part of a commit."""
        return ("HINCRBY", self._keys.counters, counter, by)

    def distrust_connections(self) -> None:
        """Close the connection at hand: it may be half-open."""
        self._commit_script.distrust()

    # --- upkeep ---------------------------------------------------------------------------------------

    def now(self) -> float:
        """Epoch seconds by Redis' own clock (TIME): when a delay ends must not depend on whose clock goes wrong."""
        return time_of(self._redis)

    def release_delayed(self, lane: str, *, limit: int, ahead_seconds: float = 0.0) -> int:
        """Return entries to the stream whose delay is over, or will be ``ahead_seconds`` from now. Answers how many."""
        keys = [self._keys.events, self._keys.delayed(lane)]
        args = [self._keys.delayed_entry(lane, ""), ahead_seconds, limit]
        with translated_errors():
            return int(self._scripts["release_delayed"](keys=keys, args=args))

    def trim(self, *, keep: int) -> int:
        """Remove what every lane has finished with, except the newest ``keep``. Answers how many."""
        with translated_errors():
            return int(self._scripts["trim"](keys=[self._keys.events], args=[keep]))

    # --- inside ---------------------------------------------------------------------------------------

    @cached_property
    def _commit_script(self) -> QuickScript:
        return QuickScript(self._redis, "stencil", "set_values", "commit")

    @cached_property
    def _scripts(self) -> dict[str, Any]:
        names = ("leave", "take_over", "redeliver", "release_delayed", "trim")
        return {name: self._redis.register_script(text_of(name)) for name in names}

    def _redeliver(self, batch: Batch, ids: Iterable[str], *, to: str, counts: int) -> list[tuple[bytes, int]]:
        keys, args = [self._keys.events, self._keys.fences(batch.lane)], [batch.lane, batch.consumer, to, counts, *ids]
        with translated_errors():
            rows: list[tuple[bytes, int]] = self._scripts["redeliver"](keys=keys, args=args)
        return rows

    def _create_group(self, lane: str) -> None:
        try:
            self._redis.xgroup_create(self._keys.events, lane, id="0", mkstream=True)
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):  # it exists: all is well
                raise

    def _finishing(self, lane: str, entries: Sequence[str], effects: Effects) -> Effects:
        finishing = Effects([*effects.words()])
        for at in range(0, len(entries), _ACKNOWLEDGED_AT_ONCE):
            finishing.add(("XACK", self._keys.events, lane, *entries[at : at + _ACKNOWLEDGED_AT_ONCE]))
        return finishing

    def _apply(self, lane: str, consumer: str, entry: str, effects: Effects) -> None:
        keys, args = self._call(lane, consumer, entry, effects)
        with translated_errors():
            is_applied = self._commit_script(keys=keys, args=args)
        _require(is_applied, lane, consumer)

    def _call(self, lane: str, consumer: str, entry: str, effects: Effects) -> Call:
        if len(effects.words()) > _MOST_WORDS:
            raise Never("too_much_to_write")
        keys = [self._keys.fences(lane), self._keys.users, self._keys.events, self._keys.seen_users]
        return keys, [lane, consumer, entry, *effects.words()]


def _require(is_applied: object, lane: str, consumer: str) -> None:
    if not is_applied:
        raise FenceLost(f"the entries of {consumer} in lane {lane} have another owner: this work is not kept")
