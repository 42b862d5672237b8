"""The Redis under attack: an embedded one that loses nothing it has acknowledged, or the operator's, left alone."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from connectbot.embedded import HOST, EmbeddedRedis, free_port
from connectbot.errors import ConnectBotError
from connectbot.redis_client import connect
from worker.chaos.proxy import Proxy
from worker.chaos.schedule import Attack, Kind

NAMESPACE_PREFIX: Final = "connectbot-chaos"
KEYS_AT_ONCE: Final = 1000
_COMMAND: Final = re.compile(rb"^\*\d+\r$", re.MULTILINE)
"""How a command begins in an append-only file."""


class ForeignKeys(ConnectBotError):
    """The operator's database holds keys that are not ours."""


class OwnRedis:
    """An embedded server with ``appendfsync always``; workers reach it through a `Proxy` when ``proxied``."""

    def __init__(self, directory: Path, *, proxied: bool) -> None:
        self._server = EmbeddedRedis(directory, append_fsync="always")
        self._proxied = proxied
        self._proxy: Proxy | None = None

    def start(self) -> None:
        """Start it."""
        self._server.start()
        if self._proxied:
            self._proxy = Proxy(self._server.port)
            self._proxy.start()

    def stop(self) -> None:
        """End it."""
        if self._proxy is not None:
            self._proxy.stop()
        self._server.stop()

    @property
    def url(self) -> str:
        """Its address for the bookkeeper."""
        return self._server.url

    @property
    def worker_url(self) -> str:
        """Its address for the workers."""
        return f"redis://{HOST}:{self._proxy.port}/0" if self._proxy else self.url

    def attack(self, attack: Attack) -> None:
        """Let it be away for as long as the attack says; it is back when this returns."""
        outages: dict[Kind, Callable[[float], None]] = {
            Kind.REDIS_KILL: self._kill,
            Kind.REDIS_RESTART: self._restart,
            Kind.REDIS_EMPTY: self._empty,
            Kind.REDIS_FLUSH: self._flush,
            Kind.REDIS_FREEZE: self._freeze,
            Kind.REDIS_HALF_OPEN: self._half_open,
            Kind.REDIS_READONLY: self._readonly,
            Kind.REDIS_OOM: self._oom,
            Kind.REDIS_LOADING: self._loading,
        }
        outages[attack.kind](attack.lasts_seconds)

    def _kill(self, seconds: float) -> None:
        self._server.kill()
        time.sleep(seconds)
        self._server.start()

    def _restart(self, seconds: float) -> None:
        self._server.stop()
        time.sleep(seconds)
        self._server.start()

    def _empty(self, seconds: float) -> None:
        self._server.kill()
        for kept in self._server.directory.glob("appendonly*"):
            shutil.rmtree(kept) if kept.is_dir() else kept.unlink()
        time.sleep(seconds)
        self._server.start()

    def _flush(self, _seconds: float) -> None:
        self._tell("FLUSHALL")  # never anybody else's: this server is ours

    def _freeze(self, seconds: float) -> None:
        self._server.freeze()
        time.sleep(seconds)
        self._server.thaw()

    def _half_open(self, seconds: float) -> None:
        if self._proxy is None:
            raise AssertionError("a half-open connection needs the proxy: make the target with proxied=True")
        self._proxy.silence()
        time.sleep(seconds)
        self._proxy.resume()

    def _readonly(self, seconds: float) -> None:
        self._tell("REPLICAOF", HOST, free_port())
        time.sleep(seconds)
        self._tell("REPLICAOF", "NO", "ONE")

    def _oom(self, seconds: float) -> None:
        self._tell("CONFIG", "SET", "maxmemory", 1)
        time.sleep(seconds)
        self._tell("CONFIG", "SET", "maxmemory", 0)

    def _loading(self, seconds: float) -> None:
        self._server.kill()
        commands = sum(len(_COMMAND.findall(kept.read_bytes())) for kept in self._server.directory.rglob("*.aof"))
        delay = {"key-load-delay": str(int(seconds * 1_000_000 / max(commands, 1)))}  # microseconds for each of them
        slow = EmbeddedRedis(self._server.directory, port=self._server.port, append_fsync="always", config=delay)
        slow.start()
        slow.kill()
        self._server.start()

    def _tell(self, *command: str | int) -> None:
        client = connect(self.url)
        client.execute_command(*command)
        client.close()


class OperatorsRedis:
    """A Redis that is not ours: workers on it are attacked, itself never.

    Raises `ForeignKeys` at `start` when the database holds other keys than those of earlier runs, unless
    ``foreign_keys_allowed``. Nothing but keys under ``namespace`` is written; they are removed at the end.
    """

    def __init__(self, url: str, *, namespace: str, foreign_keys_allowed: bool) -> None:
        self._url = url
        self._namespace = namespace
        self._foreign_keys_allowed = foreign_keys_allowed

    @property
    def url(self) -> str:
        """Its address for the bookkeeper."""
        return self._url

    @property
    def worker_url(self) -> str:
        """Its address for the workers."""
        return self._url

    def start(self) -> None:
        """Look whether it may be used."""
        client = connect(self.url)
        try:
            for key in client.scan_iter(count=KEYS_AT_ONCE):
                if not self._foreign_keys_allowed and not key.startswith(NAMESPACE_PREFIX.encode()):
                    raise ForeignKeys(
                        "this database holds keys that are not of chaos: name an empty one (redis://host:6379/15), "
                        "or allow it with --allow-foreign-keys; only keys under a prefix of chaos are written"
                    )
        finally:
            client.close()

    def stop(self) -> None:
        """Remove what the run has left."""
        client = connect(self.url)
        for key in client.scan_iter(f"{self._namespace}*", count=KEYS_AT_ONCE):
            client.unlink(key)
        client.close()

    def attack(self, attack: Attack) -> None:
        """Never."""
        raise AssertionError(f"{attack.kind} is not for the operator's Redis")
