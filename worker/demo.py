"""The demo: a story told to a real installation, and each line of its end read back from where the effect lives."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from connectbot.cache_keys import MATCHING_RESULTS, user_namespace
from connectbot.clients import Clients
from connectbot.events import ConnectBotEvents, Event, decode, new_event
from connectbot.matching.asking import SERVICE
from worker.stack import Stack

USERS: Final = range(1, 201)
ADMIN: Final = 7
PAIRED: Final = range(1, 11)
BY_DELAY: Final = 1001
REQUEST_ID: Final = "demo-coffee"
TEMP_KEY: Final = "form_data_1"
TEMP_TTL_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 60.0
DEPARTMENTS: Final = ("Engineering", "Design", "Sales")

DELAY_AS_DJANGO_DOES: Final = f"from worker import app; from tasks.menus import rebuild; rebuild.delay([{BY_DELAY}])"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the summary: what was to happen, what was seen, and whether that is it."""

    what: str
    seen: str
    holds: bool


@dataclass(slots=True)
class Scenario:
    """The story. ``show`` is called whenever something new begins, with what that is and the lines so far."""

    stack: Stack
    clients: Clients
    show: Callable[[str, Sequence[Line]], None]
    heard: list[Event] = field(default_factory=list)
    menu: dict[str, Any] | None = None

    def play(self) -> list[Line]:
        """Play it to the end. Answers the summary; never raises because something did not come."""
        lines: list[Line] = []
        with self._listening() as hear:
            self.show(f"publishing {len(USERS)} users, a matching request and temporary data", lines)
            self._publish()
            self.show("enqueueing a task with .delay(), from a process of its own as Django is", lines)
            subprocess.run(  # noqa: S603 - our own command
                [sys.executable, "-c", DELAY_AS_DJANGO_DOES], env=self.stack.environment(), check=True, timeout=60
            )
            for look in (self._menus, self._delay, self._pairs, self._temp, self._beat, self._flower, self._dead):
                self.show(f"waiting for {look.__doc__}", lines)
                lines.append(self._wait(look, hear))
        self.show("stopping everything", lines)
        return lines

    # --- what happens -----------------------------------------------------------------------------------

    def _publish(self) -> None:
        keys, ours = self.clients.settings.keys, self.clients
        ours.publisher.publish(
            *(
                new_event(
                    ConnectBotEvents.USER_CREATED,
                    {"user": {"id": user_id, "role": "admin" if user_id == ADMIN else "employee"}},
                    channel=keys.global_channel,
                    user_id=user_id,
                )
                for user_id in USERS
            )
        )
        people = [{"id": id_, "department": DEPARTMENTS[id_ % 3], "grade": "MIDDLE"} for id_ in PAIRED]
        ours.publisher.publish_microservice_event(
            SERVICE,
            ConnectBotEvents.MATCHING_REQUEST,
            {"users": list(PAIRED), "type": "coffee", "employees": people, "request_id": REQUEST_ID},
        )
        ours.temp_data.store(
            user_namespace(ADMIN), TEMP_KEY, {"step": 1}, ttl_seconds=TEMP_TTL_SECONDS, now=time.time()
        )

    # --- what is seen -----------------------------------------------------------------------------------

    def _menus(self) -> Line:
        """menus in the cache"""
        cached = [id_ for id_ in USERS if self.clients.menus.get(id_, "main")]
        self.menu = self.clients.menus.get(ADMIN, "main")
        return Line("menus cached", f"{len(cached)} of {len(USERS)}", len(cached) == len(USERS))

    def _delay(self) -> Line:
        """the task enqueued with .delay()"""
        done = self.clients.menus.get(BY_DELAY, "main") is not None
        return Line("task by .delay()", f"menu of user {BY_DELAY} {'cached' if done else 'missing'}", done)

    def _pairs(self) -> Line:
        """pairs from the matching service"""
        result = self.clients.temp_data.get(MATCHING_RESULTS, REQUEST_ID)
        pairs = result["pairs"] if isinstance(result, dict) else []
        told = [
            event
            for event in self.heard
            if event.type == ConnectBotEvents.MATCHING_COMPLETED and event.data.get("request_id") == REQUEST_ID
        ]
        users_told = {event.user_id for event in told if event.user_id is not None}
        holds = len(pairs) == len(PAIRED) // 2 and users_told == set(PAIRED) and len(told) > len(users_told)
        return Line("pairs received", f"{len(pairs)} pairs kept, {len(users_told)} people told", holds)

    def _temp(self) -> Line:
        """temp data expired and its event heard"""
        gone = self.clients.temp_data.get(user_namespace(ADMIN), TEMP_KEY) is None
        heard = [event for event in self.heard if event.type == ConnectBotEvents.TEMP_EXPIRED]
        holds = gone and [event.data.get("key") for event in heard] == [TEMP_KEY]
        return Line("temp data expired", f"{'gone' if gone else 'still there'}, {len(heard)} event heard", holds)

    def _beat(self) -> Line:
        """a tick of beat"""
        tick = self.clients.redis.get(self.clients.settings.keys.last_tick)
        if tick is None:
            return Line("last beat tick", "none", holds=False)
        age = time.time() - float(tick)
        return Line("last beat tick", f"{age:.1f} s ago", age < PATIENCE_SECONDS)

    def _flower(self) -> Line:
        """both workers in Flower"""
        try:
            workers = _ask_flower(self.stack, "/api/workers?refresh=1")
        except (OSError, ValueError) as error:
            return Line("Flower", f"no answer: {error}", holds=False)
        names = sorted(name.partition("@")[0] for name in workers)
        return Line("Flower", f"sees the workers {', '.join(names) or 'none'}", names == ["default", "java"])

    def _dead(self) -> Line:
        """no dead letters"""
        dead = self.clients.redis.xlen(self.clients.settings.keys.dead)
        return Line("dead letters", str(dead), dead == 0)

    # --- waiting ----------------------------------------------------------------------------------------

    def _wait(self, look: Callable[[], Line], hear: Callable[[], None]) -> Line:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self.stack.check()
            hear()
            line = look()
            if line.holds or time.monotonic() > deadline:
                return line
            time.sleep(0.05)

    @contextmanager
    def _listening(self) -> Iterator[Callable[[], None]]:
        keys = self.clients.settings.keys
        with self.clients.redis.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.psubscribe(f"{keys.namespace}:user:*")
            pubsub.subscribe(keys.global_channel, keys.service_channel(SERVICE))

            def hear() -> None:
                while message := pubsub.get_message(timeout=0.0):
                    self.heard.append(decode(message["data"]))

            hear()
            yield hear


def _ask_flower(stack: Stack, path: str) -> dict[str, Any]:
    credentials = base64.b64encode(f"{stack.flower_user}:{stack.flower_password}".encode()).decode()
    request = urllib.request.Request(stack.flower_url + path, headers={"Authorization": f"Basic {credentials}"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310 - our own Flower
        found: dict[str, Any] = json.load(answer)
        return found
