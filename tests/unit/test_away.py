"""What the threads of a process know together of Redis being away."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis

from connectbot.complaints import MOST_REMEMBERED, Complaints
from connectbot.errors import RedisUnavailable
from connectbot.offline import outage as module
from connectbot.offline.local_menus import LocalMenus
from connectbot.offline.outage import Outage
from connectbot.redis_client import translated_errors
from tests.support import wait_until


class Redis:
    """Is away as long as `away` says so; counts who looks after it, and how many do at once."""

    def __init__(self) -> None:
        self.away = True
        self.done = True
        self.error = RedisUnavailable("refused")
        self.looks = 0
        self.at_once = 0
        self.most_at_once = 0

    def recover(self) -> bool:
        self.looks += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.away:
                raise self.error
            outage.end()
            return self.done
        finally:
            self.at_once -= 1


outage: Outage


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    global outage
    monkeypatch.setattr(module, "PAUSES_SECONDS", (0.01,))
    server = Redis()
    outage = Outage(server.recover)
    yield server
    outage.close()


def fail() -> None:
    raise RedisUnavailable("refused")


def fail_to_write() -> None:
    raise RedisUnavailable("full", refuses_writes=True)


def call(work: Callable[[], object], *, writes: bool = True) -> bool:
    """Whether ``work`` was tried at all."""
    tried = []
    with suppress(RedisUnavailable), outage.guarding(writes=writes):
        tried.append(True)
        work()
    return bool(tried)


def test_after_the_first_failure_nobody_tries_until_redis_is_back(server: Redis) -> None:
    assert call(fail)
    assert not call(fail)
    assert outage.now is not None
    assert outage.now.cause == "refused"
    server.away = False
    wait_until(lambda: outage.now is None, deadline_seconds=5, what="the end")
    assert outage.last is not None
    assert outage.last.seconds is not None
    assert call(lambda: None)


def test_while_redis_only_refuses_to_write_what_reads_is_tried(server: Redis) -> None:
    server.error = RedisUnavailable("full", refuses_writes=True)
    assert call(fail_to_write)
    assert not call(fail_to_write)
    assert call(lambda: None, writes=False)
    assert outage.reads
    server.error = RedisUnavailable("refused")
    assert call(fail, writes=False)
    assert not call(fail, writes=False)
    assert not outage.reads
    server.error = RedisUnavailable("full", refuses_writes=True)
    wait_until(lambda: outage.reads, deadline_seconds=5, what="a Redis that is read again")
    assert outage.now is not None
    assert outage.now.cause == "full"
    assert call(lambda: None, writes=False)


@pytest.mark.parametrize(
    ("answer", "refuses_writes"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("Error running script (call to f_8c): @user_script:5: @user_script: 5: -OOM command not allowed", True),
        ("MISCONF Redis is configured to save RDB snapshots", True),
        ("NOREPLICAS Not enough good replicas to write.", True),
        ("MASTERDOWN Link with MASTER is down", False),
        ("LOADING Redis is loading the dataset in memory", False),
        ("BUSY Redis is busy running a script.", False),
    ],
)
def test_who_cannot_serve_may_only_refuse_to_write(answer: str, refuses_writes: bool) -> None:
    with pytest.raises(RedisUnavailable) as caught, translated_errors():
        raise redis.ResponseError(answer)
    assert caught.value.refuses_writes is refuses_writes


def test_one_thread_looks_after_redis_however_many_saw_it_go(server: Redis) -> None:
    barrier = threading.Barrier(20)

    def see() -> None:
        barrier.wait()
        outage.begin(RedisUnavailable("refused"))

    threads = [threading.Thread(target=see) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: server.looks > 5, deadline_seconds=5, what="some looks")
    assert server.most_at_once == 1
    assert sum(thread.name == "connectbot-outage" for thread in threading.enumerate()) == 1


def test_the_thread_ends_when_all_is_well_and_comes_back_when_asked(server: Redis) -> None:
    server.away, server.done = False, False
    outage.look_after()
    wait_until(lambda: server.looks > 3, deadline_seconds=5, what="some looks")
    server.done = True
    wait_until(lambda: outage._thread is None, deadline_seconds=5, what="the thread to end")
    looks = server.looks
    outage.look_after()
    wait_until(lambda: server.looks > looks, deadline_seconds=5, what="another look")


def test_what_fails_in_the_thread_does_not_end_it(server: Redis, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> bool:
        server.looks += 1
        raise ZeroDivisionError

    own = Outage(broken)
    own.look_after()
    wait_until(lambda: server.looks > 2, deadline_seconds=5, what="some looks")
    own.close()
    assert "ZeroDivisionError" in caplog.text


def test_a_process_that_had_no_room_for_the_thread_starts_it_later(
    server: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", lambda _: no_room())
        assert call(fail)
    server.away = False
    assert not call(lambda: None)
    wait_until(lambda: outage.now is None, deadline_seconds=5, what="the end")


def no_room() -> None:
    raise RuntimeError("can't start new thread")


# --- saying things once, and remembering menus ---------------------------------------------------------------------


def test_a_complaint_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"))
    for _ in range(3):
        complaints.say("one")
    complaints.say("two")
    assert [record.message for record in caplog.records] == ["one", "two"]
    assert complaints.last is not None
    assert complaints.last[0] == "two"


def test_only_so_many_complaints_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"))
    for number in range(MOST_REMEMBERED + 1):
        complaints.say(str(number))
    complaints.say("0")
    assert len(caplog.records) == MOST_REMEMBERED + 2


def test_the_menu_that_nobody_asks_for_makes_room() -> None:
    menus = LocalMenus(most=3)
    for user_id in range(3):
        menus.keep(user_id, "main", {"n": user_id}, ttl_seconds=60)
    assert menus.get(0, "main") == {"n": 0}
    menus.keep(3, "main", {"n": 3}, ttl_seconds=60)
    assert menus.get(1, "main") is None
    assert [menus.get(user_id, "main") for user_id in (0, 2, 3)] == [{"n": 0}, {"n": 2}, {"n": 3}]
    menus.forget(0, "main", "missing")
    assert len(menus) == 2
    menus.clear()
    assert len(menus) == 0


def test_a_user_named_by_text_has_the_same_menu() -> None:
    menus = LocalMenus()
    menus.keep(7, "main", {"data": {}}, ttl_seconds=60)
    named: Any = "7"
    assert menus.get(named, "main") == {"data": {}}
    menus.forget(named, "main")
    assert menus.get(7, "main") is None


def test_a_menu_is_remembered_for_a_while() -> None:
    menus = LocalMenus()
    menus.keep(7, "main", {}, ttl_seconds=-1)
    assert menus.get(7, "main") is None


def test_a_handler_of_the_log_may_ask_redis_when_it_hears_that_it_is_away(server: Redis) -> None:
    heard = []

    class TellsTheBot(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(call(fail))

    handler, logger = TellsTheBot(), logging.getLogger(module.__name__)
    logger.addHandler(handler)
    try:
        server.error = RedisUnavailable("refused")
        caller = threading.Thread(target=call, args=(fail,), daemon=True)
        caller.start()
        caller.join(20)
        assert not caller.is_alive()
        assert heard == [False], "it is away: nobody tries"
    finally:
        logger.removeHandler(handler)
