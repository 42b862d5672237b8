"""The bridge from v21: what unmodified v21 code publishes by pub/sub enters the stream, and is kept from then on.

Every worker of the lane ``default`` listens, so that pub/sub has a listener while one of them lives; the stream gets
each event once all the same (lua/bridge_admit.lua). What this package publishes itself is in the stream already: it
ends with `events.OURS_ENDS_WITH` and is passed over unread.

A message that is no event is counted, logged without its text, and dropped. It is not made a dead letter: whatever
would be done with it there, it cannot become an event; v21's own listeners drop it as well; and dead letters are
kept until an operator drops them, so that chatter on a public channel could fill Redis.

Pub/sub keeps nothing for who is away. A gap, in which no worker listened, is therefore counted and logged:

    bridge_events     events that came by pub/sub only
    bridge_malformed  messages that were no events
    bridge_gaps       times in which nobody listened, and
    bridge_gap_ms     how long they were altogether
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from connectbot.admission import MARKER_SECONDS, Admission, Candidate
from connectbot.clients import Clients
from connectbot.errors import BacklogFull
from connectbot.events import OURS_ENDS_WITH
from connectbot.listener import Listener
from tasks.process import clients
from worker.companion import PAUSE_SECONDS, Companion, CompanionStep
from worker.routing import DEFAULT

logger = logging.getLogger(__name__)

NOTE_SECONDS: Final = 0.5
"""How often the bridge notes in Redis that it listens."""
SHORTEST_GAP_SECONDS: Final = 1.25
"""Two notes may be that far apart although somebody listened all the time. Redis is given up only later than that
(ANSWER_TIMEOUT_SECONDS): what was published while it hung, and told to nobody, is in a gap that counts."""
WAIT_SECONDS: Final = 0.5
BUSY_MESSAGES: Final = 20
COLLECTING_SECONDS: Final = 0.01
"""After so many messages at once, or one of our own, which needs nothing of it, the bridge waits this long: a flood
wakes it 100 times a second, not 10,000, and it is not in the way while the worker begins on its own events."""
LONGEST_SLEEP_SECONDS: Final = MARKER_SECONDS / 2
"""What a bridge holds for longer, others may have brought in and forgotten: it would come in again, as if new."""


class _Overslept(Exception):
    """This process, or Redis, hung for so long that what is held is not to be trusted."""


class Bridge(Companion):
    """Listens as long as it runs."""

    anew = "the bridge subscribes anew"

    def __init__(self, ours: Clients) -> None:
        super().__init__()
        self._clients = ours
        self._admission = Admission(ours.redis, ours.settings.keys, room=ours.settings.room, tracer=ours.tracer)
        self._held: list[Candidate] = []
        self._awake_at = 0.0
        self._listened_at: float | None = None
        self._next_note = 0.0
        self._redis_ahead_ms = 0
        self._is_full = False

    def turn(self) -> float:
        """Listen, until something goes wrong."""
        try:
            self._listen()
        except _Overslept:
            logger.warning(
                "the bridge hung for more than %g s: it drops %d messages and subscribes anew",
                LONGEST_SLEEP_SECONDS, len(self._held),
            )  # fmt: skip
            self._held.clear()
        return PAUSE_SECONDS

    # --- inside ---------------------------------------------------------------------------------------

    def _listen(self) -> None:
        if not self._held:
            self._awake_at = time.monotonic()
        patterns = self._clients.settings.keys.channel_patterns
        with Listener(self._clients.redis, patterns=patterns, ignoring=OURS_ENDS_WITH) as listener:
            self._note(unbroken=False)
            self.is_well()
            logger.info("the bridge listens to %s", ", ".join(patterns))
            while not self._stopping.is_set():
                self._stay_awake()
                self._hear(listener)
                self._stay_awake()
                self._bring_in()
                if time.monotonic() >= self._next_note and not self._held:
                    self._note(unbroken=True)

    def _stay_awake(self) -> None:
        now = time.monotonic()
        if now - self._awake_at > LONGEST_SLEEP_SECONDS:
            raise _Overslept
        self._awake_at = now

    def _hear(self, listener: Listener) -> None:
        """Take the next messages, unless earlier ones wait: then Redis keeps them for us, as long as it will."""
        if self._held:
            self._stopping.wait(PAUSE_SECONDS)
            return
        heard = listener.hear(wait_seconds=WAIT_SECONDS)
        self._listened_at = time.monotonic()
        candidates = map(Candidate.of, heard.messages)
        self._held = [candidate for candidate in candidates if candidate is not None]
        self._log_malformed()
        if heard.ignored or len(heard.messages) >= BUSY_MESSAGES:
            self._stopping.wait(COLLECTING_SECONDS)

    def _log_malformed(self) -> None:
        """One line for all of them, however many come at once."""
        malformed = [candidate for candidate in self._held if candidate.problem]
        if malformed:
            logger.warning(
                "%d messages on v21's channels are no events, and are dropped; the last, on %s: %s",
                len(malformed), malformed[-1].channel, malformed[-1].problem,
            )  # fmt: skip

    def _bring_in(self) -> None:
        if not self._held:
            return
        try:
            self._admission.admit(self._held)
        except BacklogFull as full:
            if not self._is_full:
                logger.warning("v21's events wait outside, and Redis will drop them in the end: %s", full)
            self._is_full = True
            return
        self._held.clear()
        self._is_full = False

    def _note(self, *, unbroken: bool) -> None:
        now = time.monotonic()
        self._next_note = now + NOTE_SECONDS
        noted = self._admission.note_listening(
            sent_ms=int(now * 1000) + self._redis_ahead_ms if unbroken else 0,
            silent_seconds=0.0 if self._listened_at is None else now - self._listened_at,
            shortest_gap_seconds=SHORTEST_GAP_SECONDS,
        )
        self._redis_ahead_ms = noted.redis_ms - int(time.monotonic() * 1000)
        if noted.gap_seconds:
            logger.error(
                "nobody listened to v21's channels for %.1f s: what it published then, if anything, is lost",
                noted.gap_seconds,
            )


class EventBridge(CompanionStep):
    """Runs the bridge in a worker of the lane ``default``, unless it is switched off."""

    lane, runs = DEFAULT, Bridge

    def start(self, parent: Any) -> None:
        """The worker begins."""
        if clients().settings.bridge:
            super().start(parent)
