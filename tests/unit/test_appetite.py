"""How much a consumer reads at once: large entries one by one, and many where few are its own."""

from __future__ import annotations

from connectbot.entries import Entry
from worker.appetite import AT_ONCE_BYTES, READ_AT_ONCE, Appetite

MOST = 64


def entries(count: int, size: int = 100) -> list[Entry]:
    return [Entry(f"{number}-0", {b"": b"x" * size}) for number in range(count)]


def after(*reads: tuple[int, int], size: int = 100, most: int = MOST) -> Appetite:
    """One that has read so many entries each time, so many of them its own."""
    appetite = Appetite(most=most, largest_bytes=size)
    for count, ours in reads:
        appetite.note(entries(count, size), ours=ours)
    return appetite


def test_who_knows_nothing_takes_no_more_than_a_batch() -> None:
    assert after().limit == MOST


def test_the_fewer_are_ours_the_more_are_read() -> None:
    assert after((64, 32)).limit == 2 * MOST
    assert after((64, 0)).limit == 4 * MOST, "not all at once: the next ones may be ours"
    assert after((64, 0), (256, 0)).limit == READ_AT_ONCE


def test_what_is_read_for_a_few_is_at_most_a_batch_of_ours_again_when_all_are() -> None:
    assert after((64, 0), (256, 0), (1000, 1000)).limit == MOST


def test_what_a_dead_one_leaves_is_all_ours() -> None:
    assert after((64, 0), (256, 0)).limit_of_ours == MOST


def test_large_entries_are_read_a_few_at_a_time_whosever_they_are() -> None:
    size = AT_ONCE_BYTES // 8
    assert after((8, 0), (8, 0), (8, 0), size=size).limit_of_ours == 8
    assert after((8, 0), (8, 0), (8, 0), size=size).limit <= 8, "Redis would be busy with the answer for too long"


def test_who_takes_large_batches_reads_no_more_than_these() -> None:
    assert after((1500, 0), (1500, 0), most=1500).limit == 1500
