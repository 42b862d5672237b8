"""`connectbot events`: publishing by hand, and watching the stream."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from connectbot.clients import Clients
from connectbot.embedded import EmbeddedRedis
from connectbot.events import Event, decode
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.acceptance.command_line import COMMAND, answer, connectbot, environment_of, refusal
from tests.support import wait_until

STREAM = "connectbot:events"


def published(client: RedisClient) -> list[Event]:
    """All that is in the stream."""
    return [decode(fields[b"event"]) for _, fields in client.xrange(STREAM)]


# --- publish ------------------------------------------------------------------------------------------------


def test_an_event_is_published_for_a_user(settings: Settings, client: RedisClient) -> None:
    told = answer(settings, "events", "publish", "user.created", '{"user": {"id": 7}}', "--user", "7")
    (event,) = published(client)
    assert told == {"published": 1, "id": event.id}
    assert (event.type, event.data, event.user_id) == ("user.created", {"user": {"id": 7}}, 7)
    assert (event.channel, event.via) == ("connectbot:user:7", "stream")


@pytest.mark.parametrize(
    ("arguments", "channel"),
    [
        ([], "connectbot:global"),
        (["--channel", "service:matching"], "connectbot:service:matching"),
        (["--channel", "connectbot:user:-5"], "connectbot:user:-5"),
    ],
)
def test_data_may_come_from_standard_input(
    arguments: list[str], channel: str, settings: Settings, client: RedisClient
) -> None:
    done = connectbot(settings, "events", "publish", "mine.own", "-", "--id", "x1", *arguments, stdin='{"ä": [1]}')
    assert done.stdout == "published, its id is x1\n"
    assert "no event mine.own is known here" in done.stderr
    (event,) = published(client)
    assert (event.id, event.data, event.channel) == ("x1", {"ä": [1]}, channel)


def test_many_events_come_as_lines(settings: Settings, client: RedisClient) -> None:
    lines = [json.dumps({"type": "user.login", "user_id": id_, "source": "v21"}) for id_ in range(1200)]
    assert answer(settings, "events", "publish", "--lines", stdin="\n".join(lines)) == {"published": 1200}
    found = published(client)
    assert [event.user_id for event in found] == list(range(1200))
    assert (found[7].channel, len({event.id for event in found})) == ("connectbot:user:7", 1200)


def test_a_line_that_is_no_event_says_where_and_what_was_published(settings: Settings, client: RedisClient) -> None:
    lines = ['{"type": "user.login", "user_id": 1}'] * 600 + ['{"typ": "user.login"}']
    told = refusal(settings, "events", "publish", "--lines", stdin="\n".join(lines))
    assert told.startswith("500 events published, nothing from line 501 on: line 601 is no event: ")
    assert client.xlen(STREAM) == 500


def test_lines_whose_answer_did_not_come_are_not_said_to_be_unpublished() -> None:
    away = Settings(redis_url="redis://127.0.0.1:1/0")
    told = refusal(away, "events", "publish", "--lines", stdin='{"type": "user.login"}')
    assert told.startswith("0 events published, perhaps nothing from line 1 on: ")


def test_ctrl_c_says_how_many_lines_were_published(settings: Settings, client: RedisClient) -> None:
    command = [*COMMAND, "events", "publish", "--lines"]
    with subprocess.Popen(
        command, env=environment_of(settings), stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        for published in (500, 1000):
            process.stdin.write('{"type": "user.login", "user_id": 1}\n' * 500)
            process.stdin.flush()
            wait_until(lambda n=published: client.xlen(STREAM) == n, deadline_seconds=20, what=f"{published} events")  # type: ignore[misc]
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()  # of the second 500 it may not have heard yet
        assert process.wait(10) == 130
    assert said in [
        f"connectbot: {count:,} events published, perhaps nothing from line {count + 1} on\n" for count in (500, 1000)
    ]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["{"], "DATA is a JSON object"),
        (["[1]"], "DATA is a JSON object"),
        (["--channel", "everybody"], "it is global, user:ID or service:NAME"),
        ([json.dumps({"text": "x" * 2000})], "more than CONNECTBOT_MAX_EVENT_BYTES (1,500)"),
    ],
)
def test_what_is_no_event_is_not_published(
    arguments: list[str], reason: str, settings: Settings, client: RedisClient
) -> None:
    small = Settings(redis_url=settings.redis_url, max_event_bytes=1500)
    assert reason in refusal(small, "events", "publish", "user.login", *arguments)
    assert client.xlen(STREAM) == 0


def test_an_event_without_a_type_is_not_published(settings: Settings, client: RedisClient) -> None:
    assert "its type is empty" in refusal(settings, "events", "publish", "")
    assert client.xlen(STREAM) == 0


def test_a_full_stream_refuses(settings: Settings, client: RedisClient) -> None:
    small = Settings(redis_url=settings.redis_url, max_backlog=1, stream_keep=1)
    told = refusal(small, "events", "publish", "--lines", stdin='{"type": "user.login"}\n' * 3)
    assert "0 events published" in told
    assert "raise CONNECTBOT_MAX_BACKLOG" in told


@pytest.mark.parametrize("arguments", [[], ["--lines", "user.login"], ["--lines", "--user", "1"]])
def test_a_type_or_lines_must_be_given(arguments: list[str], settings: Settings) -> None:
    assert "name a TYPE, or give --lines" in connectbot(settings, "events", "publish", *arguments, exit_code=2).stderr


# --- tail ---------------------------------------------------------------------------------------------------


@pytest.fixture
def ours(settings: Settings) -> Iterator[Clients]:
    clients = Clients.open(settings)
    yield clients
    clients.redis.close()
    clients.java.close()


def test_the_tail_shows_who_and_what_but_not_the_payload(settings: Settings, ours: Clients) -> None:
    ours.publisher.publish_user_event(7, "user.login", {"token": "secret-marker"})
    ours.publisher.publish_global_event("system.maintenance", {})
    ours.redis.xadd(STREAM, {"event": b"\x1b[2J{", "lane": "java", "attempts": 2})
    shown = connectbot(settings, "events", "tail", "--from", "start", "--no-follow").stdout.splitlines()
    assert [line.split()[3] for line in shown[:2]] == ["user.login", "system.maintenance"]
    assert shown[0].endswith("user 7      user:7")
    assert "cannot be read" in shown[2]
    assert not [line for line in shown if "secret-marker" in line or "\x1b" in line]
    first = json.loads(connectbot(settings, "events", "tail", "--from", "1h", "--limit", "1", "--json").stdout)
    assert {name: first[name] for name in ("type", "user_id", "channel")} == {
        "type": "user.login", "user_id": 7, "channel": "connectbot:user:7",
    }  # fmt: skip
    assert set(first) == {"time", "entry_id", "id", "type", "user_id", "channel"}
    for form in ([], ["--json"]):
        told = connectbot(settings, "events", "tail", "--from", "start", "--no-follow", "--payload", *form).stdout
        assert '{"token": "secret-marker"}' in told


def test_the_tail_begins_and_ends_where_it_is_told(settings: Settings, ours: Clients) -> None:
    for id_ in range(5):
        ours.publisher.publish_user_event(id_, "user.login" if id_ % 2 else "activity.created", {})
    third = ours.redis.xrange(STREAM)[2][0].decode()
    for arguments, expected in (
        (("--from", third), [3, 4]),
        (("--from", "start", "--type", "user.*"), [1, 3]),
        (("--from", "start", "--type", "activity.created", "--limit", "2"), [0, 2]),
        ((), []),
    ):
        lines = connectbot(settings, "events", "tail", "--no-follow", "--json", *arguments).stdout.splitlines()
        assert [json.loads(line)["user_id"] for line in lines] == expected
    done = connectbot(settings, "events", "tail", "--from", "yesterday", exit_code=2)
    assert "is no age: write it as" in done.stderr


def test_what_other_languages_write_is_shown_as_well(settings: Settings, ours: Clients) -> None:
    id_ = "1764418911000000000-7"  # made of nanoseconds
    ours.redis.xadd(STREAM, {"event": '{"type": "user.login", "id": "one", "data": {}}'}, id=id_)
    ours.redis.xgroup_create(STREAM, "default", id="0")
    ours.redis.xgroup_create(STREAM, b"\xff", id="0")
    ours.redis.xreadgroup("default", b"\xff", {STREAM: ">"})
    assert id_ in connectbot(settings, "events", "tail", "--from", "start", "--no-follow", "--json").stdout
    assert connectbot(settings, "events", "tail", "--from", id_, "--no-follow").stdout == ""
    told = json.loads(connectbot(settings, "events", "trace", id_, "--json").stdout)
    assert (told["id"], told["now"][0]["where"]) == ("one", "pending")
    lanes = json.loads(connectbot(settings, "stats", "--json").stdout)["lanes"]
    assert [lane["backlog"] for lane in lanes] == [1, 1]


@contextmanager
def tailing(settings: Settings, client: RedisClient, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A running `tail`, from when it waits for events."""
    command = [*COMMAND, "events", "tail", "--json", *arguments]
    with subprocess.Popen(
        command, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            wait_until(
                lambda: any(row["cmd"] == "xread" and "b" in row["flags"] for row in client.client_list()),
                deadline_seconds=20,
                what="a tail that reads",
            )
            yield process
        finally:
            process.kill()


def test_the_tail_follows_through_a_restart_of_redis(
    settings: Settings, ours: Clients, client: RedisClient, embedded_redis: EmbeddedRedis
) -> None:
    ours.publisher.publish_user_event(1, "user.login", {})  # before it: not shown
    with tailing(settings, client) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ours.publisher.publish_user_event(2, "user.login", {})
        assert json.loads(process.stdout.readline())["user_id"] == 2
        embedded_redis.kill()
        assert "this goes on when it is back" in process.stderr.readline()
        embedded_redis.start()
        wait_until(
            lambda: ours.publisher.publish_user_event(3, "user.login", {}), deadline_seconds=20, what="publishing"
        )
        assert json.loads(process.stdout.readline())["user_id"] == 3
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
