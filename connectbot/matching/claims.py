"""Who answers a matching request: each is answered once, however often it is asked.

A request is known by its ``request_id``. Two requests that put the same question to the service are *twins* while the
first of them is in flight: the service is asked for the first only, and its answer is the other's too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final

from connectbot.cache_keys import MATCHING_RESULTS, CacheKeys, temp_key
from connectbot.entries import Entry
from connectbot.keys import Keys
from connectbot.quick_script import QuickScript
from connectbot.redis_client import Command, RedisClient, translated_errors

LIFETIME_SECONDS: Final = 1800
"""How long a request is remembered: as long as v21 keeps one (contract v21)."""
FAILURE_SECONDS: Final = 300
"""How long it is kept why a request has failed: for callers who could not listen when it was told."""
_ANSWERED_MS: Final = 120_000
"""How long twins find the answer: twice as long as one waits at most before it looks again (tasks/matching.py)."""


class Claim(Enum):
    """What is to be done with a request."""

    MINE = "mine"
    """Answer it."""
    DOUBLED = "doubled"
    """Nothing: another entry brought the same request, which is in flight, or whose result is kept."""
    TWIN = "twin"
    """Wait: another request with the same question is in flight."""
    ANSWERED = "answered"
    """Take the answer of the other request with the same question."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The outcome of a claim. ``twin`` names the other request, by the hash of its id, where there is one.

    ``now`` is when it was claimed, in epoch seconds by Redis' clock, by which what is put aside comes back.
    """

    claim: Claim
    twin: str
    now: float


@dataclass(frozen=True, slots=True)
class Wish:
    """A request as far as it can be asked twice: its id, and what the service is asked (`MatchingRequest.question`)."""

    request_id: str
    question: bytes

    @property
    def request(self) -> str:
        """Its id, as a key can carry it."""
        return _hash(_encoded(self.request_id))

    @property
    def asked(self) -> str:
        """Its question, as a key can carry it."""
        return _hash(self.question)


class MatchingClaims:
    """The claims of one installation. Every method that answers no commands raises `RedisUnavailable`."""

    def __init__(self, client: RedisClient, keys: Keys, cache_keys: CacheKeys) -> None:
        self._redis = client
        self._keys = keys
        self._cache_keys = cache_keys

    def claim(self, wish: Wish, entry: Entry) -> Claimed:
        """Claim a request for an entry; the entry may come again, even under another id, and finds its claim."""
        keys = [
            self._keys.matching_claim(wish.request),
            self._keys.matching_answered(wish.request),
            self._keys.matching_question(wish.asked),
            self._cache_keys.physical(temp_key(MATCHING_RESULTS, wish.request_id)),
        ]
        came_ms = entry.origin.partition("-")[0]
        with translated_errors():
            found = self._script(keys=keys, args=[entry.origin, came_ms, wish.request, LIFETIME_SECONDS])
        claim, twin, seconds, microseconds = (part.decode() for part in found)
        return Claimed(Claim(claim), twin, int(seconds) + int(microseconds) / 1e6)

    def distrust_connections(self) -> None:
        """Close the connection at hand for claims: it may be half-open."""
        self._script.distrust()

    def answered_key(self, request_id: str) -> str:
        """The key that exists once a request was answered."""
        return self._keys.matching_answered(_hash(_encoded(request_id)))

    def answering(self, wish: Wish, result_key: str, *, now: float, twin: bool) -> Iterable[Command]:
        """The commands that note an answer kept under ``result_key``, as part of the commit (see `answered_key`).

        ``now`` is in epoch seconds. ``twin``: it was another request's answer.
        """
        yield ("SET", self.answered_key(wish.request_id), result_key, "EX", LIFETIME_SECONDS)
        if not twin:
            question = self._keys.matching_question(wish.asked)
            yield ("SET", question, f"{wish.request} {now * 1000:.0f}", "PX", _ANSWERED_MS)

    def result_key(self, request: str) -> str | None:
        """Under which key the answer of a request, named by its hash, is kept."""
        with translated_errors():
            found = self._redis.get(self._keys.matching_answered(request))
        return found.decode() if found else None

    def is_anothers(self, wish: Wish, entry: Entry) -> bool:
        """Whether another entry has brought the same request, and claimed it."""
        with translated_errors():
            claimed = self._redis.get(self._keys.matching_claim(wish.request))
        return claimed not in (None, entry.origin.encode())

    def releasing(self, wish: Wish) -> list[Command]:
        """The commands that give a claim up, as part of a commit: the request has failed, and may be asked again."""
        question = self._keys.matching_question(wish.asked)
        with translated_errors():
            held = self._redis.get(question)
        ours = [question] if held == wish.request.encode() else []
        return [("DEL", self._keys.matching_claim(wish.request), *ours)]

    @cached_property
    def _script(self) -> QuickScript:
        return QuickScript(self._redis, "matching_claim")


def _encoded(request_id: str) -> bytes:
    return request_id.encode("utf-8", "surrogatepass")


def _hash(text: bytes) -> str:
    return hashlib.blake2b(text, digest_size=16).hexdigest()
