"""What the commands share: how they fail, the options that several have, and text that is safe on a terminal."""

from __future__ import annotations

import errno
import math
import re
import signal
import sys
from collections.abc import Callable
from typing import Any, Final

import click
import redis
from rich.console import Console
from rich.text import Text

from connectbot.clients import Clients
from connectbot.errors import ConnectBotError, RedisUnavailable
from connectbot.settings import Settings

INTERRUPTED: Final = 130
"""Exit status after Ctrl-C when there was more to do, as shells have it: 128 + SIGINT."""

SEEN_BY_ALL: Final = "a password given here can be seen in the list of processes"

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_CELL_LETTERS: Final = 80
_PIPE_LETTERS: Final = 10_000


class Failed(click.ClickException):
    """A command cannot do what it was asked to: one sentence, exit status 1."""

    def show(self, file: Any = None) -> None:
        """Print the sentence."""
        click.echo(f"connectbot: {self.format_message()}", file=file, err=file is None)


class Commands(click.Group):
    """A group that turns every error that can be expected into one sentence, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(INTERRUPTED) from None
        except RedisUnavailable as error:
            raise Failed(
                f"{str(error).rstrip('.')}: see that the Redis of REDIS_URL runs, or name another by "
                "`REDIS_URL=... connectbot ...`; `connectbot check` says more"
            ) from error
        except ConnectBotError as error:
            raise Failed(str(error)) from error
        except redis.RedisError as error:  # it is there, and refuses
            raise Failed(
                f"Redis refuses this: {error}; see that REDIS_URL names the right server and database; where a right "
                "is missing, the role `operator` of deploy/redis-acl may do it"
            ) from error
        except UnicodeEncodeError as error:
            raise Failed(
                f"a letter cannot be written in {error.encoding}: name things in UTF-8, and set PYTHONIOENCODING=utf-8 "
                "for a terminal that has another encoding"
            ) from error
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever reads us has enough: click ends quietly
                raise
            raise Failed(f"{error.filename or 'this system'}: {error.strerror or error}") from error


def opened() -> Clients:
    """The clients of the installation that the settings name. Raises `SettingsError`."""
    return Clients.open(Settings.load())


def interrupt_on_signals() -> None:
    """Take SIGTERM, and a terminal that is closed, for a Ctrl-C: nothing that we have started or written is left."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup wants us to go on
            signal.signal(number, interrupt)


# --- options and arguments ------------------------------------------------------------------------------


def json_option(help_: str = "Print one JSON object, and nothing else.") -> Callable[[Callable[..., None]], Any]:
    """The option ``--json``, which a command takes as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help=help_)


class Age(click.ParamType[float]):
    """A length of time, such as ``90s``, ``15m``, ``2h`` or ``3d``; becomes seconds."""

    name = "age"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The age in seconds."""
        parts = re.fullmatch(r"(\d{1,9}(?:\.\d+)?)([smhd])", str(value), re.ASCII)
        if parts is None:
            self.fail(f"{value!r} is no age: write it as 90s, 15m, 2h or 3d", param, ctx)
        return float(parts[1]) * _UNITS[parts[2]]


class UserId(click.ParamType[int]):
    """The id of a user, of Django's or Telegram's: a whole number of 64 bits."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The id."""
        if not re.fullmatch(r"-?\d{1,19}", str(value), re.ASCII) or not -(2**63) <= int(value) < 2**63:
            self.fail(f"{value!r} is no id of a user: it is a whole number, such as 7", param, ctx)
        return int(value)


class Number(click.FloatRange):
    """A number within bounds: never ``nan``, which no bound holds off."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is no number", param, ctx)
        return number


USER_ID: Final = UserId()
LIMIT: Final = click.IntRange(1, 1_000_000_000)


# --- text -----------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """What came from outside must not command the operator's terminal."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)


def output() -> Console:
    """Where tables are printed: a terminal gets what fits on it, `grep` and a file each row on one line."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_LETTERS)


def cell(text: str) -> Text:
    """Such text in a table, the beginning of it."""
    shown = printable(text)
    return Text(shown if len(shown) <= _CELL_LETTERS else f"{shown[: _CELL_LETTERS - 1]}…", overflow="fold")


def counted(count: int, noun: str) -> str:
    """So many of something."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """A length of time for people, in its greatest unit."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
