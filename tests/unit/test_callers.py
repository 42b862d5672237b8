"""The threads that make calls: in order, as many at once as there are, and no more once one has failed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from tasks.callers import Callers


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def waiting(gate: threading.Event) -> Callable[[], None]:
    return lambda: gate.wait(20) and None


def test_it_returns_when_the_last_job_has_begun(gate: threading.Event) -> None:
    callers, done = Callers(2), list[int]()
    jobs = [waiting(gate), *(lambda number=number: done.append(number) for number in range(10))]
    callers.work(jobs, to_the_end=False)
    callers.work([lambda: done.append(10)], to_the_end=True)
    assert done == list(range(11)), "one thread is left to the others, in their order"
    gate.set()
    callers.finish()


def test_to_the_end_it_waits_for_all() -> None:
    callers, done = Callers(3), list[int]()
    callers.work([lambda number=number: done.append(number) for number in range(20)], to_the_end=True)
    assert sorted(done) == list(range(20))


def test_after_an_error_no_more_begin_and_it_is_raised() -> None:
    callers, done = Callers(1), list[int]()

    def fail() -> None:
        raise LookupError("not there")

    with pytest.raises(LookupError):
        callers.work([fail, *(lambda number=number: done.append(number) for number in range(10))], to_the_end=True)
    assert done == []
    callers.work([lambda: done.append(1)], to_the_end=True)
    assert done == [1], "the next ones do"


def test_an_error_that_comes_too_late_to_be_raised_is_logged_by_its_kind(
    gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    callers = Callers(1)

    def fail() -> None:
        gate.wait(20)
        raise LookupError("somebody's data")

    callers.work([fail], to_the_end=False)
    gate.set()
    callers.finish()
    assert "LookupError" in caplog.text
    assert "somebody" not in caplog.text
