"""What all commands of `connectbot` have in common: help, errors, completion, and Celery's own command line."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from connectbot.clients import Clients
from connectbot.menus import build_main_menu
from connectbot.redis_client import RedisClient
from connectbot.settings import Settings
from tests.acceptance.command_line import COMMAND, connectbot, environment_of, in_process, refusal
from tests.redis_acl import with_role
from tests.support import ROOT
from worker.cli import connectbot as group
from worker.commands.common import output

NO_FACTS = {"completion"}
"""Commands that print no facts: these have no ``--json``."""


def leaves(command: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, *names, name)
    else:
        yield names, command


LEAVES = dict(leaves(group))


# --- help ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_every_command_explains_itself_and_its_options(names: tuple[str, ...], settings: Settings) -> None:
    command = LEAVES[names]
    options = [param for param in command.params if isinstance(param, click.Option)]
    assert command.help
    assert [option.name for option in options if not option.help] == []
    assert any("--json" in option.opts for option in options) or names[0] in NO_FACTS
    assert "Usage: " in connectbot(settings, *names, "--help").stdout


def test_the_group_names_the_variables_and_the_exit_statuses(settings: Settings) -> None:
    told = " ".join(connectbot(settings, "-h").stdout.split())
    for variable in ("REDIS_URL", "CONNECTBOT_NAMESPACE", "JAVA_SERVICE_URL"):
        assert f"[env var: {variable}]" in told
    for status in ("0 all is well", "1 it is not", "2 the command was given wrongly", "130 Ctrl-C"):
        assert status in told


@pytest.mark.parametrize("command", ["", "chaos"])
def test_where_a_password_can_be_seen_is_said(command: str, settings: Settings) -> None:
    told = " ".join(connectbot(settings, *command.split(), "--help").stdout.split())
    assert "a password given here can be seen in the list of processes" in told


def test_an_option_of_the_group_wins_over_the_environment(settings: Settings) -> None:
    away = dataclasses.replace(settings, redis_url="redis://127.0.0.1:1/0")
    done = in_process(away, "--redis-url", settings.redis_url, "--namespace", "mine", "dead", "list", "--json")
    assert json.loads(done.stdout) == {"total": 0, "letters": []}


# --- errors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        "stats", "events publish user.login", "events tail", "events trace x", "menus warm", "menus warm --all",
        "menus rebuild 7", "menus show 7", "menus clear 7", "temp list", "temp list --user 7", "temp show 7",
        "temp show 7 key", "temp clear 7 --scan", "dead list", "dead show x", "dead drop --all", "java status",
        "java park",
    ],
)  # fmt: skip
def test_redis_away_is_one_sentence(arguments: str) -> None:
    told = refusal(Settings(redis_url="redis://127.0.0.1:1/0"), *arguments.split())
    assert "Redis cannot serve this now" in told
    assert "see that the Redis of REDIS_URL runs" in told


def test_another_redis_is_not_advised_to_be_named_where_ps_shows_its_password() -> None:
    told = refusal(Settings(redis_url="redis://127.0.0.1:1/0"), "dead", "list")
    assert "or name another by `REDIS_URL=... connectbot ...`; `connectbot check` says more" in told
    assert "--redis-url" not in told


def test_in_a_process_of_its_own_too() -> None:
    done = in_process(Settings(redis_url="redis://user:secret-marker@127.0.0.1:1/0"), "temp", "list", exit_code=1)
    assert done.stdout == ""
    assert done.stderr.startswith("connectbot: Redis cannot serve this now: ")
    assert done.stderr.count("\n") == 1
    assert "secret-marker" not in done.stderr


def test_a_right_that_is_missing_is_one_sentence(settings: Settings) -> None:
    # What the role may do depends on the test's own rules: reading dead letters is not for publishers.
    told = refusal(Settings(redis_url=with_role(settings.redis_url, "publisher")), "dead", "drop", "--all")
    assert "the role `operator` of deploy/redis-acl may do it" in told


@pytest.mark.parametrize(
    "arguments",
    [
        "events publish user.login --user 7", "events tail --from 1h --no-follow", "menus rebuild 7", "menus warm",
        "menus warm --all", "menus show 7", "menus clear 7", "temp list", "temp list --user 7", "temp show 7 --scan",
        "temp clear 7 --scan", "stats", "java park", "java release",
    ],
)  # fmt: skip
def test_the_role_of_operators_may_do_it(arguments: str, settings: Settings) -> None:
    ours = Clients.open(settings)
    ours.temp_data.store("user_7", "form_data_1", {}, now=time.time())
    ours.menus.store(7, "main", {}, now=time.time())
    ours.redis.close()
    connectbot(Settings(redis_url=with_role(settings.redis_url, "operator")), *arguments.split())


def test_sentinels_that_name_no_master_are_one_short_sentence() -> None:
    told = refusal(Settings(redis_url="sentinel://127.0.0.1:1/service/0"), "dead", "list")
    assert told.startswith("Redis cannot serve this now: No master found for 'service': see that")


def test_another_refusal_of_redis_is_not_put_down_to_rights_alone(settings: Settings) -> None:
    elsewhere = Settings(redis_url=settings.redis_url.rpartition("/")[0] + "/9999")
    assert "see that REDIS_URL names the right server and database" in refusal(elsewhere, "dead", "list")
    assert "names the right server and database" in connectbot(elsewhere, "check", exit_code=1).stdout


@pytest.mark.parametrize("url", ["http://localhost", "redis://localhost:port/0"])
def test_a_setting_that_cannot_be_used_is_named(url: str) -> None:
    assert "the address of Redis" in refusal(Settings(redis_url=url), "dead", "list")


@pytest.mark.parametrize("id_", ["anna", "7.5", str(2**63)])
def test_a_user_is_a_number(id_: str) -> None:
    assert "is no id of a user" in connectbot(Settings(), "menus", "show", id_, exit_code=2).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        "dead list --limit 99999999999999999999", "temp show 7 --limit 99999999999999999999", "stats --interval nan",
        "dead replay --type x --rate nan", "dead replay --type x --rate inf",
        "events tail --from 1-99999999999999999999",
    ],
)  # fmt: skip
def test_a_number_beyond_reason_is_refused(arguments: str, settings: Settings) -> None:
    assert "Error: Invalid value for " in connectbot(settings, *arguments.split(), exit_code=2).stderr


def test_what_is_no_entry_of_redis_is_not_found(settings: Settings) -> None:
    assert "nothing is known of 1-99999999999999999999" in refusal(
        settings, "events", "trace", "1-99999999999999999999"
    )


def test_a_name_that_is_not_utf8_is_one_sentence(settings: Settings) -> None:
    assert "name things in UTF-8" in refusal(settings, "temp", "show", "7", "\udcff")


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refusal(Settings(), "up", "--directory", str(tmp_path / "file" / "x"))
    assert str(tmp_path / "file") in told


def test_a_reader_that_has_enough_gets_no_traceback(settings: Settings) -> None:
    ours = Clients.open(settings)
    for user_id in range(3000):
        ours.publisher.publish_user_event(user_id, "user.login", {})
    ours.redis.close()
    command = [*COMMAND, "events", "tail", "--from", "start", "--no-follow"]
    with subprocess.Popen(
        command, env=environment_of(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "user.login" in process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ("dead list", r"1767225600000-0 +2026-01-01 00:00:00 +user\.created +default +attempts_exhausted +8"),
        ("temp list", r"user_7 +conversation_state_of_the_survey +\S.*"),
        ("temp show 7", r"conversation_state_of_the_survey +\S.* dict +\S+ \S+ +\d+"),
        ("menus show 7", r"👤 Профиль +profile +show_profile"),
        ("java status", r"│ oldest parked +│ - +│"),
        ("stats", r"users with menus +0 cached of 0 known"),
    ],
)
def test_a_row_is_one_line_for_whoever_is_no_terminal(
    arguments: str, row: str, settings: Settings, client: RedisClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Clients.open(settings)
    ours.temp_data.store("user_7", "conversation_state_of_the_survey", {}, now=time.time())
    ours.menus.store(7, "main", build_main_menu(7), now=time.time())
    ours.redis.close()
    client.xadd(
        settings.keys.dead,
        {
            "type": "user.created", "event": "{}", "lane": "default", "reason": "attempts_exhausted",
            "error": "KeyError", "attempts": 8, "entry_id": "1-1",
        },
        id="1767225600000-0",
    )  # fmt: skip
    monkeypatch.setenv("COLUMNS", "20")
    lines = connectbot(settings, *arguments.split()).stdout.splitlines()
    assert [line for line in lines if re.fullmatch(row, line.strip())], "\n".join(lines)


def test_a_terminal_gets_what_fits_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert output().width == 60


# --- completion ---------------------------------------------------------------------------------------------

_IN_BASH = """
eval "$(connectbot completion bash)"
complete -p connectbot
COMP_WORDS=({words}) COMP_CWORD={at}
_connectbot_completion connectbot
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("connectbot menus w", "warm"),
        ("connectbot events publish user.log", "user.login user.logout"),
        ("connectbot menus warm --a", "--all"),
    ],
)
def test_bash_completes(words: str, expected: str, settings: Settings, tmp_path: Path) -> None:
    command = tmp_path / "connectbot"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m worker.cli "$@"\n')
    command.chmod(0o755)
    environment = environment_of(settings) | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = _IN_BASH.format(words=words, at=len(words.split()) - 1)
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    registered, completed = done.stdout.splitlines()
    assert registered.endswith("-F _connectbot_completion connectbot")
    assert sorted(completed.split()) == expected.split()


@pytest.mark.parametrize(("shell", "mark"), [("zsh", "#compdef connectbot"), ("fish", "complete --no-files --command")])
def test_other_shells_get_their_scripts(shell: str, mark: str, settings: Settings) -> None:
    assert mark in connectbot(settings, "completion", shell).stdout


# --- within Celery's command --------------------------------------------------------------------------------


@pytest.fixture
def installed(settings: Settings, tmp_path: Path) -> dict[str, str]:
    """The environment of an installation: its entry points are found as pip leaves them."""
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    described = tmp_path / "connectbot_worker-0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: connectbot-worker\nVersion: 0\n")
    lines = [f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()) for name, points in groups.items()]
    (described / "entry_points.txt").write_text("\n".join(lines))
    return environment_of(settings) | {"PYTHONPATH": f"{ROOT}:{tmp_path}"}


def celery(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Celery's own command."""
    command = [sys.executable, "-m", "celery", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_celery_has_our_commands(installed: dict[str, str]) -> None:
    done = celery(installed, "-A", "worker", "connectbot", "events", "publish", "user.login", "--user", "7", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["published"] == 1
    helped = celery(installed, "-A", "worker", "connectbot", "--help").stdout
    assert "Usage: python -m celery connectbot" in helped
    assert "Exit status" in helped


def test_an_error_under_celery_is_one_sentence_too(installed: dict[str, str]) -> None:
    environment = installed | {"REDIS_URL": "redis://127.0.0.1:1/0"}
    done = celery(environment, "-A", "worker", "connectbot", "temp", "list")
    assert done.returncode == 1
    assert done.stderr.startswith("connectbot: Redis cannot serve this now")
    assert done.stderr.count("\n") == 1


def test_a_foreign_celery_app_is_left_alone(installed: dict[str, str]) -> None:
    # A Django site that has the package and a Celery app of its own loads the entry point with every command.
    code = "import sys, celery.bin.celery as it; print('connectbot' in it.celery.commands, 'worker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=installed, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["True", "False"], done.stderr


# --- bench --------------------------------------------------------------------------------------------------


def test_the_benchmark_measures_this_installation() -> None:
    # Not the Redis of the settings, which is away.
    away = Settings(redis_url="redis://127.0.0.1:1/0")
    figures = json.loads(in_process(away, "bench", "--events", "2000", "--json").stdout)
    names = ("published_one_by_one_per_second", "published_many_per_second", "handled_per_second", "latency_p50_ms")
    assert all(figures[name] > 0 for name in names)
    assert figures["latency_p99_ms"] >= figures["latency_p50_ms"]
