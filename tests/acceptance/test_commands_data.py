"""`connectbot menus` and `connectbot temp`: what lies in the cache, seen and changed by hand."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from connectbot.cache_keys import temp_key
from connectbot.clients import Clients
from connectbot.effects import Effects
from connectbot.settings import Settings
from connectbot.users import NO_VERSION, KnownUser
from tests.acceptance.command_line import COMMAND, answer, connectbot, environment_of, refusal
from tests.support import wait_until

MANY = 60_000
PLACE = "connectbot:menus:warming"
WARM = "connectbot:menus:warm"


@pytest.fixture
def ours(settings: Settings) -> Iterator[Clients]:
    clients = Clients.open(settings)
    yield clients
    clients.redis.close()
    clients.java.close()


def know(ours: Clients, users: range, role: str | None = "employee") -> None:
    """Make users known, as events would."""
    effects = Effects()
    effects.add_for_users([KnownUser(user_id, NO_VERSION, role) for user_id in users], [ours.users.remembering()])
    ours.stream.apply(effects)


# --- menus --------------------------------------------------------------------------------------------------


def run_out(ours: Clients) -> dict[bytes, float]:
    """Of each user whose menus were written, when they run out."""
    texts = ours.redis.zrange(WARM, 0, -1, withscores=True)
    return {user: runs_out for text, runs_out in texts for user in text.split()}


def test_menus_of_everybody_are_warmed(settings: Settings, ours: Clients) -> None:
    know(ours, range(1, 1501))
    know(ours, range(9000, 9010), role=None)  # deleted
    assert answer(settings, "menus", "warm", "--all") == {"warmed": 1510, "users": 1510, "complete": True}
    assert ours.menus.cold(range(1, 1501), within_seconds=1700) == []
    assert ours.menus.get(9001, "main") is None
    assert connectbot(settings, "menus", "warm", "--all").stdout == "menus of 1,510 users warmed\n"
    assert ours.redis.exists(PLACE) == 0


def test_warming_stopped_by_ctrl_c_goes_on_where_it_stopped(settings: Settings, ours: Clients) -> None:
    for first in range(0, MANY, 10_000):
        know(ours, range(first, first + 10_000))
    process = subprocess.Popen(
        [*COMMAND, "menus", "warm", "--all", "--json"], env=environment_of(settings), stdout=subprocess.PIPE, text=True
    )
    try:
        wait_until(lambda: ours.redis.exists(PLACE), deadline_seconds=20, what="the first page")
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    told = json.loads(output)
    assert told["complete"] is False
    before = run_out(ours)
    assert 0 < len(before) == told["warmed"] < MANY
    assert 0 < ours.redis.ttl(PLACE) <= settings.menu_ttl_seconds

    assert answer(settings, "menus", "warm", "--all") == {"warmed": MANY, "users": MANY, "complete": True}
    after = run_out(ours)
    assert len(after) == MANY
    again = [user for user, runs_out in before.items() if after[user] != runs_out]
    assert again == [], "what was done was done again"


def test_menus_that_run_out_are_warmed(settings: Settings, ours: Clients) -> None:
    know(ours, range(1, 4))
    now = time.time()
    ours.redis.zadd(WARM, {1: now + 10, 2: now + 20, 3: now + 1700})
    assert answer(settings, "menus", "warm") == {"warmed": 2}
    assert ours.menus.cold([1, 2, 3], within_seconds=1700) == [3]


def test_a_users_menus_are_rebuilt_shown_and_cleared(settings: Settings, ours: Clients) -> None:
    know(ours, range(7, 8), role="admin")
    assert "connectbot menus rebuild 7" in refusal(settings, "menus", "show", "7")
    assert answer(settings, "menus", "rebuild", "7", "8") == {"rebuilt": 2}
    shown = answer(settings, "menus", "show", "7")
    assert (shown["user_id"], shown["known"], shown["role"], set(shown["menus"])) == (
        7, True, "admin", {"main", "preferences"},
    )  # fmt: skip
    assert shown["menus"]["main"]["data"] == (ours.menus.get(7, "main") or {})["data"]
    assert 1700 < shown["menus"]["main"]["expires_in_seconds"] <= 1800
    table = connectbot(settings, "menus", "show", "7").stdout
    assert "main: lives 30 min more" in table
    assert "👥 Управление пользователями" in table
    assert answer(settings, "menus", "rebuild", "8", "--menu", "activities") == {"rebuilt": 1}
    assert set(answer(settings, "menus", "show", "8")["menus"]) == {"main", "preferences", "activities"}
    assert connectbot(settings, "menus", "clear", "7", "8").stdout == "menus of 2 users removed\n"
    assert answer(settings, "menus", "show", "7", exit_code=1)["menus"] == {}
    ours.redis.zadd(WARM, {text: time.time() + 10 for text in ours.redis.zrange(WARM, 0, -1)})
    assert answer(settings, "menus", "warm") == {"warmed": 0}, "nobody is kept warm for what was removed"


def test_a_menu_of_odd_form_is_shown_without_harm(settings: Settings, ours: Clients) -> None:
    ours.menus.store(1, "main", {"options": [{"label": "\x1b[2J[bold]"}, "text"]}, now=0.0)
    ours.menus.store(1, "admin", ["no", "menu"], now=0.0)
    ours.cache.set("menu:user:1:preferences", "{", 60)
    shown = connectbot(settings, "menus", "show", "1").stdout
    assert "\x1b" not in shown
    assert r"\x1b[2J[bold]" in shown
    assert '["no", "menu"]' in shown
    assert "cannot be used" in shown


# --- temporary data -----------------------------------------------------------------------------------------


@pytest.fixture
def kept(ours: Clients) -> None:
    """Temporary data of two users, and some of a namespace of its own."""
    now = time.time()
    store = ours.temp_data.store
    store("user_7", "form_data_1", {"text": "secret-marker"}, now=now, ttl_seconds=600)
    store("user_7", "conversation_state", "secret-marker", now=now, ttl_seconds=7200)
    store("user_8", "form_data_2", {"a": 1}, now=now, ttl_seconds=60)
    store("matching_results", "coffee", {"pairs": []}, now=now, ttl_seconds=1800)
    store("user_9", "form_data_3", {"a": 1}, now=now - 100, ttl_seconds=1)
    # As v21 keeps it: in the cache, and in no index.
    ours.cache.set(temp_key("user_7", "form_data_v21"), '{"data": {"a": 1}, "type": "dict", "serialized": true}', 60)


@pytest.mark.usefixtures("kept")
def test_temporary_data_is_listed_without_what_it_says(settings: Settings) -> None:
    def listed(*arguments: str) -> list[tuple[str, str]]:
        rows = answer(settings, "temp", "list", *arguments)["temp_data"]
        return [(row["namespace"], row["key"]) for row in rows]

    soon = [("user_9", "form_data_3"), ("user_8", "form_data_2")]
    assert listed("--limit", "2") == soon
    assert listed("--due") == soon[:1]
    assert listed("--user", "7") == [("user_7", "form_data_1"), ("user_7", "conversation_state")]
    assert listed("--namespace", "matching_results") == [("matching_results", "coffee")]
    table = connectbot(settings, "temp", "list").stdout
    assert "5 listed, 5 in all" in table
    assert "run out" in table
    assert "secret-marker" not in table
    assert "exclude each other" in connectbot(settings, "temp", "list", "--due", "--user", "1", exit_code=2).stderr


@pytest.mark.usefixtures("kept")
def test_one_namespace_is_shown(settings: Settings) -> None:
    shown = answer(settings, "temp", "show", "7")
    assert shown["namespace"] == "user_7"
    first = next(row for row in shown["keys"] if row["key"] == "form_data_1")
    assert set(first) == {"key", "expires_in_seconds", "type", "created_at", "bytes"}
    assert (first["type"], 0 < first["expires_in_seconds"] <= 600) == ("dict", True)
    scanned = connectbot(settings, "temp", "show", "user_7", "--scan").stdout
    assert "form_data_v21" in scanned
    assert "secret-marker" not in scanned
    (state,) = answer(settings, "temp", "show", "7", "conversation_state", "--payload")["keys"]
    assert state["data"] == "secret-marker"
    assert "secret-marker" in connectbot(settings, "temp", "show", "7", "--payload").stdout
    assert "v21's own is found with --scan" in refusal(settings, "temp", "show", "nothing")


@pytest.mark.usefixtures("kept")
def test_forms_of_users_are_cleared(settings: Settings, ours: Clients) -> None:
    assert answer(settings, "temp", "clear", "7", "8") == {"cleared": 2}
    assert ours.temp_data.all_keys_of("user_7") == ["conversation_state", "form_data_v21"]
    assert connectbot(settings, "temp", "clear", "7", "--scan").stdout == "1 piece of temporary data cleared\n"
    assert answer(settings, "temp", "clear", "7", "--all") == {"cleared": 1}
    assert ours.temp_data.all_keys_of("user_7") == []
    assert answer(settings, "temp", "list")["total"] == 2
