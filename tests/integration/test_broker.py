"""Our connection to the broker, where it differs from kombu's."""

from __future__ import annotations

import time

import pytest

from connectbot.settings import Settings
from worker.broker import LONGEST_PAUSE_SECONDS, Connection, kombu_url


def test_an_acknowledgement_on_a_closed_channel_is_a_lost_connection(settings: Settings) -> None:
    """kombu's own answer is an AttributeError, which ends a worker."""
    with Connection(kombu_url(settings.redis_url)) as connection:
        queue = connection.SimpleQueue("java")
        queue.put({"a": 1})
        message = queue.get(timeout=5)
        message.channel.do_restore = False  # as in a worker that has lost its connection
        message.channel.close()
        assert message.channel.connection is None
        with pytest.raises(connection.connection_errors, match="closed when its connection was lost"):
            message.ack()


def test_a_broker_that_is_away_is_asked_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    connection = Connection("redis://127.0.0.1:1/0")
    with pytest.raises(connection.connection_errors):
        connection.ensure_connection(
            lambda _, pause: pauses.append(pause), max_retries=5, reraise_as_library_errors=False
        )
    assert pauses[0] == 1
    assert set(pauses[1:]) == {LONGEST_PAUSE_SECONDS}
    connection.release()
