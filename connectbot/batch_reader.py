"""Reading the entries of a batch, whose order tells where they are and not what they are."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

from connectbot.entries import Batch, Entry, entries_of
from connectbot.errors import FenceLost
from connectbot.keys import Keys
from connectbot.quick_script import ROOMY
from connectbot.redis_client import RedisClient, one_connection, translated_errors


class BatchReader:
    """Reads batches in parts. Redis is asked for the next part before the caller is given this one.

    So it lies ready when it is wanted, though Redis may be busy by then with what the caller has made of this one.
    """

    def __init__(self, client: RedisClient, keys: Keys) -> None:
        self._redis = client
        self._keys = keys

    def parts(self, batch: Batch, *, limit: int) -> Generator[list[Entry]]:
        """The entries of a batch, oldest first, in parts of up to ``limit``. Those deleted meanwhile are missing.

        Raises `RedisUnavailable`, and `FenceLost` when others have taken the batch over: work on it would be in vain.
        """
        if batch.ids:
            yield self._named(batch)
        elif self._redis.connection_pool.max_connections < ROOMY:  # the caller may need the only connection
            yield from list(self._ranges(batch, limit))
        else:
            yield from self._ranges(batch, limit)

    def _named(self, batch: Batch) -> list[Entry]:
        with translated_errors(), self._redis.pipeline(transaction=False) as pipe:
            pipe.hexists(self._keys.fences(batch.lane), batch.consumer)
            for id_ in batch.ids:
                pipe.xrange(self._keys.events, id_, id_)
            stands, *answers = pipe.execute()
        _require(stands, batch)
        return [Entry.read(id_, fields) for rows in answers for id_, fields in rows]

    def _ranges(self, batch: Batch, limit: int) -> Iterator[list[Entry]]:
        with translated_errors(), one_connection(self._redis) as connection:
            self._ask(connection, batch, batch.first, limit)
            while len(rows := self._answer(connection, batch)) == limit and rows[-1][0] != batch.last.encode():
                self._ask(connection, batch, b"(" + rows[-1][0], limit)
                yield batch.picked_from(entries_of(rows))
        yield batch.picked_from(entries_of(rows))

    def _ask(self, connection: Any, batch: Batch, first: str | bytes, limit: int) -> None:
        fence = ("HEXISTS", self._keys.fences(batch.lane), batch.consumer)
        found = ("XRANGE", self._keys.events, first, batch.last, "COUNT", limit)
        connection.send_packed_command(connection.pack_commands([fence, found]))

    def _answer(self, connection: Any, batch: Batch) -> list[Any]:
        """What lies between two entries of a batch, also what is not part of it."""
        stands, rows = connection.read_response(), connection.read_response()
        _require(stands, batch)
        return list(rows)


def _require(stands: object, batch: Batch) -> None:
    if not stands:
        raise FenceLost(f"the entries of {batch.consumer} in lane {batch.lane} have another owner")
