"""How long an event waits for its next try."""

from __future__ import annotations

import pytest

from tasks.batch_run import LONGEST_DELAY_SECONDS, backoff_seconds


@pytest.mark.parametrize(("attempts", "usual"), [(1, 1), (2, 2), (4, 8), (100, LONGEST_DELAY_SECONDS)])
def test_it_doubles_up_to_its_longest_whatever_less_is_asked_for(attempts: int, usual: float) -> None:
    for asked in (0.0, 0.1):
        waits = [backoff_seconds(attempts, asked=asked) for _ in range(100)]
        assert usual / 2 <= min(waits) < max(waits) <= usual


def test_who_asks_for_more_gets_it_and_not_from_all_at_once() -> None:
    waits = [backoff_seconds(1, asked=60) for _ in range(100)]
    assert 60 <= min(waits) < max(waits) <= 72
