"""An answer that comes soon is waited for awake, others are slept for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from connectbot import spin_wait
from connectbot.spin_wait import SLEEPS, SPIN_SECONDS, SpinWait


class Answers:
    """Answers that come after so many seconds each, by a clock that moves whenever it is looked at."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *after: float) -> None:
        self._after = after
        self._now = 0.0
        self.looks: list[int] = []
        monkeypatch.setattr(spin_wait, "perf_counter", self._clock)

    def _clock(self) -> float:
        self._now += SPIN_SECONDS / 10
        return self._now

    def wait_for_each(self) -> Iterator[bool]:
        """Whether each was there at the end of the wait for it."""
        spin = SpinWait()
        for after in self._after:
            due, looks = self._now + after, 0

            def is_there(due: float = due) -> bool:
                nonlocal looks
                looks += 1
                return self._now >= due

            spin.wait(is_there)
            self.looks.append(looks)
            yield self._now >= due


def test_answers_that_come_soon_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    soon = Answers(monkeypatch, *[SPIN_SECONDS / 2] * 3)
    assert list(soon.wait_for_each()) == [True, True, True]


def test_a_long_wait_is_given_up_and_the_next_are_not_even_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Answers(monkeypatch, *[1.0] * (2 * SLEEPS + 2))
    assert not any(late.wait_for_each())
    tried = [nth for nth, looks in enumerate(late.looks) if looks]
    assert tried == [0, SLEEPS + 1]
    assert max(late.looks) <= 11


def test_it_is_tried_again_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    late_once = Answers(monkeypatch, 1.0, *[SPIN_SECONDS / 2] * (SLEEPS + 3))
    assert list(late_once.wait_for_each()) == [False] * (SLEEPS + 1) + [True] * 3
