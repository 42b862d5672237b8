"""Dead letters: found, shown, replayed once, dropped."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from connectbot.clients import Clients
from connectbot.dead_letters import AT_ONCE, PAGE, DeadLetters, Selection, in_steps
from connectbot.errors import BacklogFull
from connectbot.events import encode, new_event
from connectbot.settings import Settings
from tests.support import Worker, wait_until
from worker.cli import connectbot, main

DEAD, STREAM = "connectbot:events:dead", "connectbot:events"
EVERYTHING = Selection()


@pytest.fixture
def letters(ours: Clients) -> DeadLetters:
    """The dead letters of the installation under test, with room for 1,000 entries in the stream of events."""
    return DeadLetters(ours.redis, ours.settings.keys, room=1000)


@pytest.fixture(autouse=True)
def the_commands_use_this_redis(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``Settings.load`` leads to the Redis of the test, and to nobody's .env."""
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.chdir(tmp_path)


def bury(ours: Clients, user_id: int = 7, *, id_: str = "*", **changes: Any) -> str:
    """Put one dead letter there; answers its id. ``id_`` may say when it died."""
    event = new_event(
        changes.pop("event_type", "user.created"),
        {"user": {"id": user_id, "name": "secret-marker"}},
        channel="connectbot:global",
        event_id=f"event-{user_id}",
    )
    fields = {
        "type": event.type,
        "event": encode(event),
        "lane": "default",
        "reason": "attempts_exhausted",
        "error": "RuntimeError",
        "attempts": 8,
        "entry_id": f"1-{user_id}",
        "died_at": repr(time.time()),
        **changes,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return str(ours.redis.xadd(DEAD, given, id=id_).decode())


def found(letters: DeadLetters, selection: Selection = EVERYTHING, *, limit: int | None = None) -> list[str]:
    return [letter.id for letter in letters.find(selection, limit=limit)]


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(connectbot, ["dead", *arguments])
    assert result.exit_code == exit_code, result.output
    return result


def answer(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json").output)


# --- finding --------------------------------------------------------------------------------------------------


def test_each_filter_selects(ours: Clients, letters: DeadLetters) -> None:
    now = time.time()
    old = bury(ours, 1, id_=f"{int((now - 7200) * 1000)}-0", reason="malformed")
    typed = bury(ours, 2, event_type="user.login")
    untyped = bury(ours, 3, event_type="user.login", type=None)
    other = bury(ours, 4, event=b"\xff no JSON", type=None, attempts=b"many")
    assert found(letters) == [old, typed, untyped, other]
    assert found(letters, limit=2) == [old, typed]
    assert found(letters, Selection(reasons=frozenset(["malformed"]))) == [old]
    assert found(letters, Selection(types=frozenset(["user.login"]))) == [typed, untyped]
    assert found(letters, Selection(died_before=now - 3600)) == [old]
    assert found(letters, Selection(died_after=now - 3600)) == [typed, untyped, other]
    assert found(letters, Selection(ids=frozenset([old, "event-2", "1-4"]))) == [old, typed, other]
    assert found(letters, Selection(ids=frozenset([old]), reasons=frozenset(["failed"]))) == []


def test_a_letter_from_the_end_of_time_is_shown_and_dropped(ours: Clients, letters: DeadLetters) -> None:
    id_ = bury(ours, id_=f"{2**64 - 1}-1")
    (letter,) = letters.find(EVERYTHING)
    assert letter.summary()["died_at"].startswith("9999")
    assert letters.drop([id_]) == 1


def test_a_long_stream_is_read_page_by_page(
    ours: Clients, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [bury(ours, id_) for id_ in range(3 * PAGE + 1)]
    asked: list[int] = []
    xrange = ours.redis.xrange
    monkeypatch.setattr(ours.redis, "xrange", lambda *args, count: asked.append(count) or xrange(*args, count=count))
    assert found(letters) == ids
    assert asked == [PAGE] * 4
    asked.clear()
    assert len(found(letters, limit=3)) == 3
    assert asked == [PAGE], "no page is read that nobody asked for"


def test_what_dies_while_we_look_is_not_found(ours: Clients, letters: DeadLetters) -> None:
    ids = [bury(ours, id_) for id_ in range(PAGE)]
    seen = []
    for letter in letters.find(EVERYTHING):
        seen.append(letter.id)
        bury(ours, 1000)
    assert seen == ids


# --- replaying ------------------------------------------------------------------------------------------------


def test_a_replayed_letter_goes_to_its_lane_as_if_new(ours: Clients, letters: DeadLetters) -> None:
    id_ = bury(ours, 7, lane="java")
    (text,) = (letter.event for letter in letters.find(EVERYTHING))
    assert letters.replay([id_]) == 1
    ((_, fields),) = ours.redis.xrange(STREAM)
    assert fields == {b"type": b"user.created", b"event": text, b"lane": b"java", b"origin": b"1-7"}
    assert len(letters) == 0


@pytest.mark.parametrize("missing", ["type", "lane", "entry_id", "event"])
def test_a_letter_without_a_field_can_be_replayed(missing: str, ours: Clients, letters: DeadLetters) -> None:
    changes: dict[str, Any] = {missing: None if missing != "type" else b""}
    assert letters.replay([bury(ours, **changes)]) == 1
    ((_, fields),) = ours.redis.xrange(STREAM)
    assert b"event" in fields
    assert b"" not in (value for name, value in fields.items() if name != b"event")


def test_a_letter_of_a_lane_that_does_not_exist_stays(ours: Clients, letters: DeadLetters) -> None:
    ids = [bury(ours, lane="jawa"), bury(ours, lane="java")]
    assert letters.replay(ids) == 1
    assert [letter.id for letter in letters.find(EVERYTHING)] == ids[:1]


def test_replaying_twice_doubles_nothing(ours: Clients, letters: DeadLetters) -> None:
    id_ = bury(ours)
    assert [letters.replay([id_, id_]), letters.replay([id_])] == [1, 0]
    assert ours.redis.xlen(STREAM) == 1


def test_two_operators_at_once_double_nothing(ours: Clients, settings: Settings) -> None:
    for user_id in range(400):
        bury(ours, user_id)
    counts: list[int] = []

    def operate() -> None:
        own = Clients.open(settings)
        mine = DeadLetters(own.redis, settings.keys, room=1000)
        counts.append(sum(mine.replay(ids) for ids in in_steps(mine.find(EVERYTHING))))

    operators = [threading.Thread(target=operate) for _ in range(3)]
    for operator in operators:
        operator.start()
    for operator in operators:
        operator.join()
    assert sum(counts) == 400
    events = [fields[b"event"] for _, fields in ours.redis.xrange(STREAM)]
    assert len(events) == len(set(events)) == 400
    assert ours.redis.xlen(DEAD) == 0


def test_without_room_nothing_is_replayed(ours: Clients) -> None:
    ids = [bury(ours, id_) for id_ in range(3)]
    full = DeadLetters(ours.redis, ours.settings.keys, room=2)
    with pytest.raises(BacklogFull):
        full.replay(ids)
    assert (ours.redis.xlen(STREAM), len(full)) == (0, 3)


@pytest.mark.parametrize(("rate", "size", "pauses"), [(None, AT_ONCE, 0), (8.0, 2, 0.25), (0.5, 1, 2.0)])
def test_the_rate_is_kept(rate: float | None, size: int, pauses: float, ours: Clients, letters: DeadLetters) -> None:
    for user_id in range(4):
        bury(ours, user_id)
    slept: list[float] = []
    steps = list(in_steps(letters.find(EVERYTHING), per_second=rate, clock=lambda: sum(slept), sleep=slept.append))
    assert max(map(len, steps)) == min(size, 4)
    assert slept == ([] if rate is None else [0.0] + [pauses] * (len(steps) - 1))


def test_an_event_that_died_is_replayed_and_has_its_effect(ours: Clients, settings: Settings, tmp_path: Path) -> None:
    settings = replace(settings, max_attempts=1)
    for user_id in range(5):
        ours.publisher.publish_user_event(
            user_id, "user.created", {"user": {"id": user_id, "role": "admin"}, "poison": "raise"}
        )
    with Worker(settings, tmp_path, lanes=["default"], app="tests.poisoned_app", name="poisoned") as poisoned:
        poisoned.wait_ready()
        wait_until(lambda: ours.redis.xlen(DEAD) == 5, deadline_seconds=30, what="their death")
    assert ours.users.look_up(range(5)) == {}
    # Meanwhile user 4 has become an employee: the replayed event is older than that.
    ours.publisher.publish_user_event(4, "user.updated", {"user": {"id": 4, "role": "employee"}})
    with Worker(settings, tmp_path, lanes=["default"], name="healthy") as healthy:
        healthy.wait_ready()
        wait_until(lambda: ours.users.look_up([4]), deadline_seconds=20, what="the newer event")
        assert answer("replay", "--type", "user.created", "--limit", "3") == {
            "replayed": 3, "dry_run": False, "selected": 3,
        }  # fmt: skip
        wait_until(lambda: len(ours.users.look_up(range(4))) == 3, deadline_seconds=20, what="three effects")
        assert answer("replay", "--all")["replayed"] == 2
        wait_until(lambda: len(ours.users.look_up(range(5))) == 5, deadline_seconds=20, what="every effect")
        wait_until(
            lambda: ours.redis.xpending(STREAM, "default")["pending"] == 0, deadline_seconds=20, what="nothing pending"
        )
    roles = {user.user_id: user.role for user in ours.users.look_up(range(5)).values()}
    assert roles == {0: "admin", 1: "admin", 2: "admin", 3: "admin", 4: "employee"}
    assert ours.redis.xlen(DEAD) == 0


# --- the command ----------------------------------------------------------------------------------------------


def test_the_list_shows_everything_but_the_event(ours: Clients) -> None:
    ids = [bury(ours, user_id) for user_id in range(3)]
    listed = answer("list", "--limit", "2")
    assert listed["total"] == 3
    assert [letter["id"] for letter in listed["letters"]] == ids[:2]
    assert {name: listed["letters"][1][name] for name in ("type", "reason", "attempts", "event_id", "entry_id")} == {
        "type": "user.created", "reason": "attempts_exhausted", "attempts": 8, "event_id": "event-1", "entry_id": "1-1",
    }  # fmt: skip
    table = run("list").output
    assert all(id_ in table for id_ in ids)
    assert "3 listed, 3 dead letters in all" in table
    assert "secret-marker" not in table + json.dumps(listed)


@pytest.mark.parametrize("name", ["event-7", "1-7"])
def test_show_shows_the_event(name: str, ours: Clients) -> None:
    bury(ours, 7)
    assert '"name": "secret-marker"' in run("show", name).output
    assert json.loads(answer("show", name)["event"])["data"]["user"]["id"] == 7


def test_show_of_what_is_not_there(ours: Clients) -> None:
    assert "there is no dead letter 1-1" in run("show", "1-1", exit_code=1).output


def test_what_came_from_outside_does_not_command_the_terminal(ours: Clients) -> None:
    id_ = bury(ours, type="\x1b[2J[bold]", event=b"\x1b[2J\xff")
    for output in (run("list").output, run("show", id_).output):
        assert "\x1b" not in output
        assert r"\x1b[2J[bold]" in output


def test_an_event_does_not_command_the_terminal_by_escapes_of_json(ours: Clients) -> None:
    ours.redis.xadd(DEAD, {"event": rb'{"text": "\u009b2J \u202e \ud800"}'})
    [letter] = ours.redis.xrange(DEAD)
    shown = run("show", letter[0].decode()).output
    assert r'"text": "\x9b2J \u202e \ud800"' in shown
    assert "{\n  " in shown


@pytest.mark.parametrize("command", ["replay", "drop"])
def test_without_a_filter_all_must_be_said(command: str, ours: Clients) -> None:
    bury(ours)
    assert "say so with --all" in run(command, exit_code=2).output
    assert "contradict" in run(command, "--all", "--type", "x", exit_code=2).output
    assert ours.redis.xlen(DEAD) == 1


@pytest.mark.parametrize(("command", "done"), [("replay", "replayed"), ("drop", "dropped")])
def test_a_dry_run_changes_nothing(command: str, done: str, ours: Clients) -> None:
    for user_id in range(3):
        bury(ours, user_id)
    assert answer(command, "--all", "--dry-run") == {done: 0, "dry_run": True, "selected": 3}
    assert f"2 dead letters would be {done}" in run(command, "--all", "--dry-run", "--limit", "2").output
    assert (ours.redis.xlen(DEAD), ours.redis.xlen(STREAM)) == (3, 0)


def test_drop_removes_what_is_selected(ours: Clients) -> None:
    for user_id in range(3):
        bury(ours, user_id, reason="malformed" if user_id else "failed")
    assert "2 dead letters dropped" in run("drop", "--reason", "malformed", "--rate", "1000").output
    assert answer("drop", "--reason", "malformed")["dropped"] == 0
    assert [letter["reason"] for letter in answer("list")["letters"]] == ["failed"]


def test_ages_are_understood(ours: Clients) -> None:
    old = bury(ours, 1, id_=f"{int((time.time() - 7200) * 1000)}-0")
    new = bury(ours, 2)
    assert _ids("--older-than", "1h") == [old]
    assert _ids("--newer-than", "90m") == [new]
    assert _ids("--newer-than", "3h", "--older-than", "119m") == [old]
    assert "is no age: write it as" in run("list", "--older-than", "yesterday", exit_code=2).output


def test_redis_away_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ours: Clients
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setattr("sys.argv", ["connectbot", "dead", "replay", "--all"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert "0 dead letters were replayed before this" in told[0]


def _ids(*arguments: str) -> Sequence[str]:
    return [letter["id"] for letter in answer("list", *arguments)["letters"]]
