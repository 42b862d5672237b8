"""One batch on its way through a handler: fetched, worked on part by part, and committed.

What a handler fails on is put off, parked, or becomes a dead letter; its neighbours are done.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from contextvars import copy_context
from functools import partial
from itertools import chain
from typing import Any, Final

from celery.utils.log import get_task_logger

from connectbot import aside
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.entries import Batch, Entry
from connectbot.errors import FenceLost, Later, MalformedEvent, Never, Parked, RedisUnavailable
from connectbot.events import Event, decode_request_id
from connectbot.log import about
from connectbot.tracing.trace import Ending, collect_calls
from connectbot.watching import ages
from tasks.callers import callers
from tasks.raised_at import raised_at
from tasks.trail import Trail
from tasks.work import Received, Work

PART: Final = 500
"""Most events for one call of the handler and one commit, some milliseconds in which Redis serves nobody else."""
FIRST_DELAY_SECONDS = 1.0
LONGEST_DELAY_SECONDS = 300.0
MOST_FIELDS = 100
"""An entry has a handful. One with thousands could not be put aside (lua/commit.lua), and would come again for ever."""

logger = get_task_logger(__name__)


class BatchRun:
    """One batch on its way through a handler."""

    def __init__(self, ours: Clients, batch: Batch, work: Work) -> None:
        self._clients = ours
        self._keys = ours.settings.keys
        self._batch = batch
        self._work = work
        self._trail = Trail.of(ours, batch)
        self._found: list[str] = []

    def run(self) -> int:
        """Work on the batch. Answers how many of its entries were there; worked on one by one, some may still be at it.

        Raises `RedisUnavailable` or `FenceLost`; whatever is not committed by then stays pending.
        """
        with self._fetched() as parts:
            if self._work.one_by_one:
                self._one_by_one([one for entries in parts for one in self._decode(entries)])
            elif self._batch.count > PART:
                self._overlapping(parts)
            else:
                self._one_after_another(parts)
        self._drop_deleted()
        return len(self._found)

    @contextmanager
    def _fetched(self) -> Iterator[Iterator[list[Entry]]]:
        """The entries of the batch in parts; in one where there are no more, even if entries of others lie between."""
        if self._batch.enclosed:
            yield iter([self._batch.opened()])
            return
        parts = self._parts()
        try:
            first = next(parts)
        except RedisUnavailable:  # connections that lay idle may be half-open by now: the next ones are new
            self._clients.distrust_connections()
            parts = self._parts()
            first = next(parts)
        with closing(parts):
            yield chain([first], parts)

    def _parts(self) -> Generator[list[Entry]]:
        return self._clients.stream.fetch_each(self._batch, limit=PART if self._batch.count > PART else None)

    def _drop_deleted(self) -> None:
        """Acknowledge what somebody has deleted from the stream: nothing can be done for it any more."""
        if len(self._found) == self._batch.count:
            return
        gone = self._clients.stream.deleted_since(self._batch, found=self._found)
        effects = Effects()
        effects.add_if_it_can_be(self._clients.stream.counting("deleted_entries", len(gone)))
        self._commit(gone, effects)

    def _decode(self, entries: Sequence[Entry]) -> list[Received]:
        self._found += [entry.id for entry in entries]
        received = []
        for entry in entries:
            try:
                received.append(Received(entry, self._read(entry)))
            except MalformedEvent as error:
                self._commit([entry.id], self._bury_unread(entry, error))
        return received

    def _bury_unread(self, entry: Entry, error: MalformedEvent) -> Effects:
        """The dead letter, and the farewell where the ``request_id`` can be read all the same: somebody may wait."""
        effects = self._bury(entry, "malformed", error)
        request_id = decode_request_id(entry.text)
        if self._work.farewell and request_id:
            remains = Event(id=entry.origin, type=entry.type, data={"request_id": request_id})
            effects.extend(self._work.farewell(self._clients, Received(entry, remains), "malformed"))
        return effects

    def _read(self, entry: Entry) -> Event:
        text = entry.text
        if len(entry.fields) > MOST_FIELDS:
            raise MalformedEvent(f"the entry has {len(entry.fields):,} fields, more than {MOST_FIELDS}")
        if len(text) > (most := self._clients.settings.max_event_bytes):
            raise MalformedEvent(f"{len(text):,} bytes are more than CONNECTBOT_MAX_EVENT_BYTES ({most:,})")
        event = self._work.read(text)
        if event.type != entry.type:
            raise MalformedEvent(f"the field type of the entry is {entry.type!r}, the JSON says {event.type!r}")
        return event

    def _one_by_one(self, received: Sequence[Received]) -> None:
        # Each in a copy of the context: what the log lines are about. Suspects are waited for: one may be a culprit.
        jobs = [partial(copy_context().run, self._together, [one]) for one in received]
        callers(self._clients.settings.java_calls_per_process).work(jobs, to_the_end=bool(self._batch.ids))

    def _overlapping(self, parts: Iterator[list[Entry]]) -> None:
        """Work on each part while Redis commits the one before."""
        begun: deque[list[Received] | None] = deque()

        def worked() -> Iterator[tuple[list[str], Effects]]:
            begun.append(None)
            for entries in parts:
                if received := self._decode(entries):
                    begun[-1] = received
                    yield self._worked(received)
                    begun.append(None)
            begun.pop()

        try:
            for _ in self._clients.stream.commit_each(self._batch.lane, self._batch.consumer, worked()):
                begun.popleft()
        except (FenceLost, RedisUnavailable):
            raise
        except Exception:
            if None in begun:  # a part could not be read: no event is to blame
                raise
            for received in begun:  # `_together` finds out on which event
                self._together(received or ())
            self._one_after_another(parts)

    def _one_after_another(self, parts: Iterable[list[Entry]]) -> None:
        for entries in parts:
            self._together(self._decode(entries))

    def _worked(self, part: Sequence[Received]) -> tuple[list[str], Effects]:
        return [one.entry.id for one in part], self._handle(part)

    def _together(self, received: Sequence[Received]) -> None:
        if not received:
            return
        try:
            self._commit(*self._worked(received))
        except (FenceLost, RedisUnavailable):
            raise
        except Exception as error:  # whatever a handler may raise, its neighbours must not suffer
            if len(received) == 1:
                with _about(received[0]):
                    self._put_off_or_bury(received[0], error)
            else:
                middle = len(received) // 2
                self._together(received[:middle])
                self._together(received[middle:])

    def _handle(self, received: Sequence[Received]) -> Effects:
        """What the handler wants written, and how old the events are by then."""
        if self._trail:
            collect_calls()
        if len(received) == 1:
            with _about(received[0]):
                effects = self._work.handle(self._clients, received)
        else:
            effects = self._work.handle(self._clients, received)
        key = self._keys.ages(self._batch.lane)
        aged = ages.counting(key, [one.entry.origin for one in received], now=time.time())
        effects.add_if_it_can_be(*aged)  # entries with ids of their own, such as 1-0, make a sum that Redis cannot hold
        if self._trail:
            self._trail.add(effects, ((one.entry, one.event) for one in received), "done")
        return effects

    def _put_off_or_bury(self, one: Received, error: Exception) -> None:
        attempts = one.entry.attempts + (not isinstance(error, Later) or error.counted)
        if isinstance(error, (Never, MalformedEvent)):
            reason = _reason(error)
        elif attempts >= self._clients.settings.max_attempts:
            reason = "attempts_exhausted"
        else:
            self._commit([one.entry.id], self._put_off(one, error, attempts))
            return
        effects = self._bury(one.entry, reason, error)
        if self._work.farewell:
            effects.extend(self._work.farewell(self._clients, one, _reason(error)))
        self._note(effects, one, "dead", error, attempts=attempts, reason=reason)
        self._commit([one.entry.id], effects)

    def _put_off(self, one: Received, error: Exception, attempts: int) -> Effects:
        deadline = self._work.deadline(self._clients, one) if self._work.deadline else None
        if isinstance(error, Parked):
            return self._park(one, error, deadline)
        delay = error.delay_seconds if isinstance(error, Later) else None
        tries = one.entry.tries
        if delay is None:
            tries += 1
            delay = backoff_seconds(tries, asked=error.asked_seconds if isinstance(error, Later) else 0.0)
        logger.log(
            logging.WARNING if attempts > one.entry.attempts else logging.INFO,
            "event %s (%s) failed, attempts so far %d, again in %.1f s: %s",
            one.event.id, one.event.type, attempts, delay, self._describe(error),
        )  # fmt: skip
        effects = Effects()
        due = min(self._clients.stream.now() + delay, deadline or math.inf)
        effects.add(*aside.delaying(self._keys, self._batch.lane, one.entry, due=due, attempts=attempts, tries=tries))
        self._note(effects, one, "delayed", error, attempts=attempts, until=due)
        return effects

    def _park(self, one: Received, error: Parked, deadline: float | None) -> Effects:
        logger.info("event %s (%s) is parked: %s", one.event.id, one.event.type, self._describe(error))
        effects = Effects()
        tries = one.entry.tries + error.tried
        effects.add(*aside.parking(self._keys, self._batch.lane, one.entry, deadline=deadline, tries=tries))
        self._note(effects, one, "parked", error, attempts=one.entry.attempts, until=deadline)
        return effects

    def _bury(self, entry: Entry, reason: str, error: Exception) -> Effects:
        described, attempts = self._describe(error), entry.attempts + 1
        logger.error("entry %s becomes a dead letter (%s): %s", entry.id, reason, described)
        effects = Effects()
        effects.add(
            aside.burying(self._keys, self._batch.lane, entry, reason=reason, error=described, attempts=attempts)
        )
        return effects

    def _note(self, effects: Effects, one: Received, end: Ending, error: Exception, **facts: Any) -> None:
        """Have the trace say why and how an event is put aside, where it is traced."""
        if self._trail:
            self._trail.add(effects, [(one.entry, one.event)], end, error=self._describe(error), **facts)

    def _describe(self, error: Exception) -> str:
        """What may be shown of an error: our own messages name no data; of others only kind and place are safe."""
        if isinstance(error, (Later, Never, MalformedEvent)):
            return str(error)
        return f"{type(error).__qualname__} at {raised_at(error, self._work.handle)}"

    def _commit(self, entries: Sequence[str], effects: Effects) -> None:
        self._clients.stream.commit(self._batch.lane, self._batch.consumer, entries, effects)


def backoff_seconds(attempts: int, *, asked: float = 0.0) -> float:
    """How long to wait after the given number of failures: doubling, capped, with jitter against herds.

    Never less than ``asked``, the seconds that the target asks for; nor much less than usual, should it ask for none.
    """
    doubled = FIRST_DELAY_SECONDS * 2.0 ** min(max(attempts - 1, 0), 30)
    usual = min(doubled, LONGEST_DELAY_SECONDS) * random.uniform(0.5, 1.0)  # noqa: S311 - not for secrets
    return max(usual, asked * random.uniform(1.0, 1.2))  # noqa: S311


def _about(one: Received) -> AbstractContextManager[None]:
    """What lines of the log are about, while one event is worked on."""
    data: Any = one.event.data
    request_id = data.get("request_id") if isinstance(data, dict) else None
    return about(
        event_id=one.event.id,
        attempt=one.entry.attempts + 1,
        request_id=request_id if isinstance(request_id, str) else None,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, MalformedEvent):
        return "malformed"
    return error.reason if isinstance(error, Never) else "failed"
