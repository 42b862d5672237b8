"""Log lines: JSON or readable, with what they are about, and without the values of variables."""

from __future__ import annotations

import contextvars
import json
import logging
import logging.config
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from connectbot import log
from connectbot.log import about, config

logger = logging.getLogger("test")


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging as it was, when a test ends."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().err)
    return found


def test_a_line_says_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config())
    with about(lane="java", request_id=None), about(event_id="e-1", attempt=2):
        logger.warning("event %s failed", "e-1")
    said = line(capsys)
    said.pop("timestamp")
    assert said == {
        "level": "warning", "logger": "test", "lane": "java", "event_id": "e-1", "attempt": 2,
        "message": "event e-1 failed",
    }  # fmt: skip


def test_what_it_is_about_ends_with_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config())
    with pytest.raises(ValueError, match="over"), about(event_id="e-1"):
        raise ValueError("over")
    logger.warning("after")
    assert "event_id" not in line(capsys)


def test_a_thread_takes_it_along_in_a_copy_of_the_context(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config())
    with ThreadPoolExecutor(1) as threads, about(event_id="e-1"):
        threads.submit(contextvars.copy_context().run, logger.warning, "inside").result()
    assert line(capsys)["event_id"] == "e-1"


@pytest.mark.parametrize("form", ["json", "console"])
def test_a_traceback_does_not_show_the_values_of_variables(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config(form=form))

    def fail(payload: str) -> None:
        raise RuntimeError("it broke")

    try:
        fail("secret" + "-marker")
    except RuntimeError:
        logger.exception("failed")
    said = capsys.readouterr().err
    assert "RuntimeError: it broke" in said
    assert "secret-marker" not in said


def test_what_json_does_not_know_is_written_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config())
    with about(lane=log):
        logger.warning("odd")
    assert "connectbot.log" in str(line(capsys)["lane"])


def test_auto_is_json_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    logging.config.dictConfig(config(form="auto"))
    logger.warning("plain")
    assert line(capsys)["message"] == "plain"
    logging.config.dictConfig(config(form="console"))
    logger.warning("plain")
    assert not capsys.readouterr().err.startswith("{")
