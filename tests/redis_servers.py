"""Redis as operators run it: a master with a replica and three sentinels, each a process of its own on loopback."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from redis import ResponseError

from connectbot.embedded import HOST, EmbeddedRedis, free_port
from connectbot.errors import RedisUnavailable
from connectbot.redis_client import RedisClient, connect, translated_errors
from connectbot.redis_server import find_server
from tests.support import wait_until

SERVICE = "connectbot"
DOWN_AFTER_SECONDS = 2.0
PASSWORD = "of-redis"
SENTINEL_PASSWORD = "of-sentinels"


class SentinelProcess:
    """One sentinel. It keeps its state in its configuration file, as Redis has it."""

    def __init__(self, directory: Path, master_port: int, *, down_after_seconds: float) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        directory.mkdir()
        (directory / "sentinel.conf").write_text(
            f"port {self.port}\nbind {HOST}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} {HOST} {master_port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_seconds * 1000:.0f}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )

    def start(self) -> None:
        """Start it."""
        command = [str(find_server()), "sentinel.conf", "--sentinel"]
        with (self._directory / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self._directory, stdout=log, stderr=subprocess.STDOUT)

    def stop(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def ask(self, *command: str | int) -> object:
        """The answer to one command; None while there is none, or an error."""
        client = connect(f"redis://:{SENTINEL_PASSWORD}@{HOST}:{self.port}/0")
        try:
            with translated_errors():
                return client.execute_command(*command)
        except (RedisUnavailable, ResponseError):  # such as NOQUORUM
            return None
        finally:
            client.close()


class ReplicatedRedis:
    """Two servers, one the replica of the other, and three sentinels over them; a context manager.

    A server that does not answer for ``down_after_seconds`` is dead to the sentinels.
    """

    def __init__(self, directory: Path, *, down_after_seconds: float = DOWN_AFTER_SECONDS) -> None:
        self._down_after_seconds = down_after_seconds
        replication = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        self.servers = [EmbeddedRedis(directory / name, config=replication) for name in ("first", "second")]
        self.sentinels: list[SentinelProcess] = []
        self._directory = directory
        self._ending = ExitStack()

    @property
    def url(self) -> str:
        """Its address, as REDIS_URL takes it."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        return f"sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0?sentinel_password={SENTINEL_PASSWORD}"

    def connect_to(self, server: EmbeddedRedis) -> RedisClient:
        """A client of one server, whatever its role."""
        return connect(f"redis://:{PASSWORD}@{HOST}:{server.port}/0")

    def start(self, server: EmbeddedRedis) -> None:
        """Start a server, which comes up as a master: it is the sentinels that make a replica of it."""
        server.start()
        client = connect(server.url)
        client.config_set("masterauth", PASSWORD)
        client.config_set("requirepass", PASSWORD)
        client.close()

    def master(self) -> EmbeddedRedis | None:
        """The server that most sentinels name; None while they do not agree."""
        named = [sentinel.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for sentinel in self.sentinels]
        for server in self.servers:
            if named.count([HOST.encode(), str(server.port).encode()]) * 2 > len(named):
                return server
        return None

    def is_replica(self, server: EmbeddedRedis) -> bool:
        """Whether a server follows its master, and is in step with it."""
        client = self.connect_to(server)
        try:
            with translated_errors():
                told = client.info("replication")
        except RedisUnavailable:
            return False
        finally:
            client.close()
        return bool(told["role"] == "slave" and told["master_link_status"] == "up")

    def __enter__(self) -> Self:
        with ExitStack() as ending:
            first, second = self.servers
            for server in self.servers:
                ending.callback(server.stop)
                self.start(server)
            follower = self.connect_to(second)
            follower.replicaof(HOST, first.port)
            follower.close()
            wait_until(lambda: self.is_replica(second), deadline_seconds=20, what="a replica in step")
            for number in range(3):
                sentinel = SentinelProcess(
                    self._directory / f"sentinel{number}", first.port, down_after_seconds=self._down_after_seconds
                )
                ending.callback(sentinel.stop)
                sentinel.start()
                self.sentinels.append(sentinel)
            wait_until(self._sentinels_agree, deadline_seconds=20, what="sentinels that know each other")
            self._ending = ending.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending.close()

    def _sentinels_agree(self) -> bool:
        return all(sentinel.ask("SENTINEL", "CKQUORUM", SERVICE) and self._knows_all(sentinel)
                   for sentinel in self.sentinels)  # fmt: skip

    def _knows_all(self, sentinel: SentinelProcess) -> bool:
        told = sentinel.ask("SENTINEL", "MASTER", SERVICE)
        facts = dict(zip(told[::2], told[1::2], strict=True)) if isinstance(told, list) else {}
        return facts.get(b"num-slaves") == b"1" and facts.get(b"num-other-sentinels") == b"2"
