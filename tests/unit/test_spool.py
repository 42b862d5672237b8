"""The file that keeps what waits: in order, across processes, bounded, and private."""

from __future__ import annotations

import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from connectbot.errors import SpoolUnusable
from connectbot.keys import Keys
from connectbot.offline.outage import Outage
from connectbot.offline.outbox import Outbox
from connectbot.offline.spool import Parcel, Spool, Spooled
from tests.support import ROOT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool.db"


@pytest.fixture
def spool(path: Path) -> Iterator[Spool]:
    spool = Spool(str(path), room=1000)
    yield spool
    spool.close()


def parcel(number: int) -> Parcel:
    return Parcel((("XADD", "stream", "*", "event", b"\xff\x00", number, 1.5), ("PUBLISH", "я", b"")), "sender", "id")


def test_what_is_appended_comes_back_in_order(spool: Spool) -> None:
    assert spool.is_empty()
    for number in range(10):
        spool.append(parcel(number), now=float(number))
    assert not spool.is_empty()
    assert spool.waiting() == (10, 0.0)
    first = spool.first(limit=4, most_bytes=10_000)
    assert [one.parcel for one in first] == [parcel(number) for number in range(4)]
    spool.drop(up_to=first[-1].number)
    assert [one.parcel for one in spool.first(limit=100, most_bytes=10_000)] == [parcel(n) for n in range(4, 10)]


def test_a_number_is_never_given_again(spool: Spool) -> None:
    spool.append(parcel(1), now=0)
    [one] = spool.first(limit=1, most_bytes=1)
    spool.drop(up_to=one.number)
    spool.append(parcel(2), now=0)
    [other] = spool.first(limit=1, most_bytes=1)
    assert other.number > one.number


def test_a_page_holds_no_more_than_so_many_bytes_but_one(spool: Spool) -> None:
    for _ in range(3):
        spool.append(Parcel((("SET", "k", b"x" * 1000),)), now=0)
    assert len(spool.first(limit=10, most_bytes=2500)) == 2
    assert len(spool.first(limit=10, most_bytes=10)) == 1


def test_the_latest_about_something(spool: Spool) -> None:
    spool.append(parcel(1), now=0, ref="temp:a%_*")
    spool.append(parcel(2), now=0, ref="temp:a%_*")
    spool.append(parcel(3), now=0, ref="temp:b")
    spool.append(parcel(4), now=0)
    assert spool.latest("temp:a%_*") == parcel(2)
    assert spool.latest("temp:c") is None
    assert spool.refs(starting="temp:a%") == ["temp:a%_*"]
    assert sorted(spool.refs(starting="temp:")) == ["temp:a%_*", "temp:b"]


def test_nothing_is_more_work_the_more_waits(spool: Spool) -> None:
    def work() -> int:
        """How many steps SQLite takes for what callers wait for."""
        steps: list[int] = []
        with spool._using() as file:
            file.set_progress_handler(lambda: steps.append(1), 1)
        spool.append(parcel(0), now=0, ref="temp:a")
        spool.is_empty()
        spool.latest("temp:a")
        spool.refs(starting="temp:a")
        spool.waiting()
        with spool._using() as file:
            file.set_progress_handler(None, 1)
        return len(steps)

    spool.append(parcel(0), now=0)
    before = work()
    for number in range(500):
        spool.append(parcel(number), now=0, ref=f"temp:b{number}")
    assert work() < 2 * before


def test_it_has_an_end(path: Path) -> None:
    spool = Spool(str(path), room=3)
    for number in range(3):
        spool.append(parcel(number), now=0)
    with pytest.raises(SpoolUnusable, match="is full"):
        spool.append(parcel(3), now=0)
    spool.close()


def test_what_is_in_it_is_nobody_elses(path: Path, spool: Spool) -> None:
    spool.append(parcel(1), now=0)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_it_is_the_same_file_for_whoever_opens_it(path: Path, spool: Spool) -> None:
    spool.append(parcel(1), now=0)
    spool.sync()
    other = Spool(str(path), room=10)
    assert other.waiting() == (1, 0.0)
    assert other.id == spool.id
    other.close()
    another = Spool(str(path.parent / "another.db"), room=10)
    assert another.is_empty()
    assert another.id != spool.id
    another.close()


APPENDS = """
import sys
from connectbot.offline.spool import Parcel, Spool
spool = Spool(sys.argv[1], room=100_000)
for number in range(300):
    spool.append(Parcel((("SET", sys.argv[2], number),)), now=0)
"""


def test_processes_share_it_from_the_moment_it_is_made(path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", APPENDS, str(path), str(number)], cwd=ROOT, stderr=subprocess.PIPE)
        for number in range(4)
    ]
    said = [process.communicate(timeout=60)[1] for process in processes]
    assert said == [b""] * 4
    spool = Spool(str(path), room=10)
    found = [one.parcel.commands[0][1:] for one in spool.first(limit=10_000, most_bytes=10**9)]
    spool.close()
    assert len(found) == 1200
    for number in range(4):
        assert [value for key, value in found if key == str(number)] == list(range(300))


@pytest.mark.parametrize("damage", [b"no database at all, and longer than sixteen bytes", b""])
def test_a_file_that_is_no_spool_is_refused_by_name(path: Path, spool: Spool, damage: bytes) -> None:
    path.write_bytes(damage)
    if not damage:
        assert spool.is_empty(), "an empty file is an empty database"
        return
    with pytest.raises(SpoolUnusable, match=r"spool\.db cannot be used: .*CONNECTBOT_SPOOL"):
        spool.is_empty()


def test_a_parcel_of_another_form_is_told(path: Path, spool: Spool) -> None:
    spool.sync()  # makes it
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO parcel (spooled_at, body) VALUES (0, x'c1')")
    file.close()
    with pytest.raises(SpoolUnusable, match="cannot be used"):
        spool.first(limit=1, most_bytes=1)


def test_a_power_cut_takes_back_no_number_that_was_delivered(path: Path, spool: Spool, tmp_path: Path) -> None:
    left = tmp_path / "left.db"

    class Cut:
        """Delivers, at the moment in which only what is surely on the disk is left."""

        def deliver(self, spooled: Sequence[Spooled]) -> tuple[int, str]:
            shutil.copyfile(path, left)
            return spooled[-1].number, ""

    cut: Any = Cut()
    outbox = Outbox(
        keys=Keys(), outage=Outage(lambda: True), spool=spool, delivery=cut, drain_spool=spool, drain_delivery=cut
    )
    spool.sync()  # its id is on the disk: numbers are compared under it
    spool.append(parcel(1), now=0)
    delivered = spool.first(limit=1, most_bytes=1)[0].number
    assert outbox.drain()
    afterwards = Spool(str(left), room=1000)
    afterwards.append(parcel(2), now=0)
    assert afterwards.id == spool.id
    assert afterwards.first(limit=10, most_bytes=10_000)[-1].number > delivered
    afterwards.close()


FORKS_TWICE = """
import os, sys
from connectbot.offline.spool import Parcel, Spool
spool = Spool(sys.argv[1], room=1000)
def append(number):
    spool.append(Parcel((("SET", "key", number),)), now=0)
append(1)
if os.fork():
    os.wait()
    append(2)
    spool.close()
else:
    append(3)
    if not os.fork():
        append(4)
        print("open", flush=True)
        for line in sys.stdin:
            append(int(line))
            print(line, end="", flush=True)
"""
APPENDS_ONE = """
import sys
from connectbot.offline.spool import Parcel, Spool
Spool(sys.argv[1], room=1000).append(Parcel((("SET", "key", int(sys.argv[2])),)), now=0)
"""


def test_a_process_that_forks_with_the_spool_open_loses_nothing(path: Path) -> None:
    daemon = subprocess.Popen(
        [sys.executable, "-c", FORKS_TWICE, path], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert daemon.stdin
    assert daemon.stdout
    daemon.stdout.readline()
    daemon.wait(30)  # who opened the spool is gone; its grandchild goes on
    for number in (5, 7, 9):
        subprocess.run([sys.executable, "-c", APPENDS_ONE, path, str(number)], cwd=ROOT, check=True, timeout=30)
        print(number + 1, file=daemon.stdin, flush=True)
        daemon.stdout.readline()
    daemon.stdin.close()
    daemon.stdout.read()  # until it has ended
    daemon.stdout.close()
    spool = Spool(str(path), room=1000)
    numbers = [one.parcel.commands[0][2] for one in spool.first(limit=100, most_bytes=10_000)]
    spool.close()
    assert sorted(map(int, numbers)) == list(range(1, 11))
