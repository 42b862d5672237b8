"""Redis as operators run it: a master with a replica and three sentinels, each a process of its own on loopback."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlencode

from redis import ResponseError

from connectbot.embedded import HOST, EmbeddedRedis, free_port
from connectbot.errors import RedisUnavailable
from connectbot.redis_client import RedisClient, connect, translated_errors
from connectbot.redis_server import find_server
from tests.support import wait_until
from tests.tls import Authority, Identity

SERVICE = "connectbot"
DOWN_AFTER_SECONDS = 2.0
PASSWORD = "of-redis"
SENTINEL_PASSWORD = "of-sentinels"


@dataclass(frozen=True, slots=True)
class Tls:
    """That servers and sentinels speak TLS, with each other too, and know whom they talk to."""

    authority: Authority
    identity: Identity

    def config(self, port: int) -> dict[str, str]:
        """What it takes in redis.conf and sentinel.conf."""
        return {
            "tls-port": str(port),
            "tls-ca-cert-file": str(self.authority.certificate),
            "tls-cert-file": str(self.identity.certificate),
            "tls-key-file": str(self.identity.key),
            "tls-auth-clients": "yes",
            "tls-replication": "yes",
        }

    def parameters(self) -> dict[str, str]:
        """What it takes in the address of a Redis."""
        return {
            "ssl_ca_certs": str(self.authority.certificate),
            "ssl_certfile": str(self.identity.certificate),
            "ssl_keyfile": str(self.identity.key),
        }


class SentinelProcess:
    """One sentinel. It keeps its state in its configuration file, as Redis has it."""

    def __init__(self, directory: Path, master_port: int, *, down_after_seconds: float, tls: Tls | None = None) -> None:
        self.port = free_port()
        self._tls = tls
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        directory.mkdir()
        (directory / "sentinel.conf").write_text(
            "".join(f"{name} {value}\n" for name, value in self._listening().items())
            + f"bind {HOST}\nrequirepass {SENTINEL_PASSWORD}\n"
            f"sentinel monitor {SERVICE} {HOST} {master_port} 2\n"
            f"sentinel auth-pass {SERVICE} {PASSWORD}\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_seconds * 1000:.0f}\n"
            f"sentinel failover-timeout {SERVICE} 10000\n"
        )

    def _listening(self) -> dict[str, str]:
        return {"port": str(self.port)} if self._tls is None else {"port": "0", **self._tls.config(self.port)}

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
        scheme, query = ("rediss", urlencode(self._tls.parameters())) if self._tls else ("redis", "")
        client = connect(f"{scheme}://:{SENTINEL_PASSWORD}@{HOST}:{self.port}/0?{query}")
        try:
            with translated_errors():
                return client.execute_command(*command)
        except (RedisUnavailable, ResponseError):  # such as NOQUORUM
            return None
        finally:
            client.close()


class ReplicatedRedis:
    """Two servers, one the replica of the other, and three sentinels over them; a context manager.

    A server that does not answer for ``down_after_seconds`` is dead to the sentinels. With ``tls`` the servers can be
    asked in the clear, too, by the tests; the sentinels name the ports that speak TLS.
    """

    def __init__(
        self, directory: Path, *, down_after_seconds: float = DOWN_AFTER_SECONDS, tls: Tls | None = None
    ) -> None:
        self._down_after_seconds = down_after_seconds
        self._tls = tls
        replication = {"repl-diskless-sync": "yes", "repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
        self._ports: dict[EmbeddedRedis, int] = {}
        self.servers = [self._server(directory / name, replication) for name in ("first", "second")]
        self.sentinels: list[SentinelProcess] = []
        self._directory = directory
        self._ending = ExitStack()

    @property
    def url(self) -> str:
        """Its address, as REDIS_URL takes it."""
        hosts = ",".join(f"{HOST}:{sentinel.port}" for sentinel in self.sentinels)
        parameters = {"sentinel_password": SENTINEL_PASSWORD, **(self._tls.parameters() if self._tls else {})}
        return f"sentinel://:{PASSWORD}@{hosts}/{SERVICE}/0?{urlencode(parameters)}"

    def _server(self, directory: Path, config: dict[str, str]) -> EmbeddedRedis:
        if self._tls is None:
            return EmbeddedRedis(directory, config=config)
        port = free_port()
        server = EmbeddedRedis(directory, config={**config, **self._tls.config(port)})
        self._ports[server] = port
        return server

    def _port(self, server: EmbeddedRedis) -> int:
        """The port that others are to use."""
        return self._ports.get(server) or server.port

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
            if named.count([HOST.encode(), str(self._port(server)).encode()]) * 2 > len(named):
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
            follower.replicaof(HOST, self._port(first))
            follower.close()
            wait_until(lambda: self.is_replica(second), deadline_seconds=20, what="a replica in step")
            for number in range(3):
                sentinel = SentinelProcess(
                    self._directory / f"sentinel{number}",
                    self._port(first),
                    down_after_seconds=self._down_after_seconds,
                    tls=self._tls,
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
