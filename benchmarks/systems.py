"""What is measured side by side: the one table of systems. Add a peer by adding a row, and its module in ``apps``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks.peers import OWN

OURS: Final = "connectbot"
CELERY: Final = "Celery"
FASTSTREAM_BATCH: Final = "FastStream, batches of 500"
LOOP_ONE: Final = "redis-py loop, 1 process"
LOOP_TWO: Final = "redis-py loop, 2 processes"


@dataclass(frozen=True, slots=True)
class System:
    """One system: how its worker is started, and how many events it gets in a full run (a fifth in a quick one).

    ``module`` is the one in ``benchmarks.apps`` with its ``enqueue``; empty for ours. ``copies`` is how often the
    command is started; a command that starts two processes itself needs one. ``listens`` tells that it must run
    before the events come.
    """

    name: str
    module: str
    worker: tuple[str, ...]
    events: int
    environment: str = OWN
    copies: int = 1
    listens: bool = False
    remark: str = ""


_CELERY: Final = ("-m", "celery", "-A")
_PREFORK: Final = ("worker", "--concurrency=2", "--loglevel=WARNING")

SYSTEMS: Final = (
    System(OURS, "", (*_CELERY, "worker", *_PREFORK, "-Q", "default"), 160_000, remark="prefork 2, one menu"),
    System(CELERY, "celery_plain", (*_CELERY, "benchmarks.apps.celery_plain", *_PREFORK), 2_000, remark="prefork 2"),
    System(
        "Celery, 500 events a task",
        "celery_chunks",
        (*_CELERY, "benchmarks.apps.celery_chunks", *_PREFORK),
        120_000,
        remark="prefork 2; collected by hand",
    ),
    System(
        "celery-batches",
        "celery_batches",
        (*_CELERY, "benchmarks.apps.celery_batches", *_PREFORK),
        4_000,
        environment="batches",
        remark="prefork 2, Celery 5.6",
    ),
    System(
        "Dramatiq",
        "dramatiq_peer",
        ("-m", "dramatiq", "benchmarks.apps.dramatiq_peer", "--processes", "2"),
        8_000,
        environment="peers",
        remark="2 processes, 8 threads each",
    ),
    System(
        "Taskiq",
        "taskiq_peer",
        ("-m", "taskiq", "worker", "benchmarks.apps.taskiq_peer:broker", "--workers", "2", "--log-level", "WARNING"),
        8_000,
        environment="peers",
        remark="streams, 2 processes",
    ),
    System(
        "FastStream, one by one",
        "faststream_single",
        ("-m", "faststream", "run", "benchmarks.apps.faststream_single:app", "--workers", "2"),
        4_000,
        environment="peers",
        remark="streams, 2 processes",
    ),
    System(
        FASTSTREAM_BATCH,
        "faststream_batch",
        ("-m", "faststream", "run", "benchmarks.apps.faststream_batch:app", "--workers", "2"),
        80_000,
        environment="peers",
        remark="streams, 2 processes",
    ),
    System(
        "Huey",
        "huey_peer",
        ("-m", "huey.bin.huey_consumer", "benchmarks.apps.huey_peer.huey", "-w", "2", "-k", "process"),
        8_000,
        environment="peers",
        remark="2 processes",
    ),
    System(
        "arq",
        "arq_peer",
        ("-m", "arq", "benchmarks.apps.arq_peer.WorkerSettings"),
        2_000,
        environment="arq",
        copies=2,
        remark="2 processes",
    ),
    System(
        "v21's listener",
        "pubsub_listener",
        ("-m", "benchmarks.apps.pubsub_listener"),
        8_000,
        listens=True,
        remark="1 process; loses what comes while it is down",
    ),
    System(LOOP_ONE, "bare_loop", ("-m", "benchmarks.apps.bare_loop"), 80_000, remark="XREADGROUP 500, SET, XACK"),
    System(LOOP_TWO, "bare_loop", ("-m", "benchmarks.apps.bare_loop"), 80_000, copies=2, remark="the same, twice"),
)


def ours_environment(redis_url: str) -> Mapping[str, str]:
    """The settings of our worker: one menu for each event, as for everybody, and the rest as it comes."""
    return {"REDIS_URL": redis_url, "CONNECTBOT_WARM_MENUS": "main"}
