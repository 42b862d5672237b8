"""A Redis server of our own: for the demo, for `connectbot up`, and for tests that play outages."""

from __future__ import annotations

import fcntl
import random
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import IO, Literal, Self

from connectbot.child_process import dying_with_us
from connectbot.errors import EmbeddedRedisError, RedisUnavailable
from connectbot.redis_client import connect, translated_errors
from connectbot.redis_server import find_server

HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 10.0
PORT_ATTEMPTS = 5
# A busy worker writes 64 MB, Redis' own default, in two seconds, and is a quarter slower while Redis writes them anew.
# Twice as much is read back, when Redis starts again, in two.
APPEND_ONLY_FILE_GROWS_TO = "128mb"
# Below the range from which systems take the ports of outgoing connections (Linux 32768, macOS 49152): a client
# that keeps trying to connect to a stopped server could be given the server's own port, and hold it.
PORTS = range(20_000, 32_000)
PORTS_TRIED = 500


class EmbeddedRedis:
    """A Redis server that belongs to this process; a context manager.

    ``directory`` keeps its append-only file, configuration and log; by default a temporary one, removed by
    `stop`. ``port`` is a free one by default. Both stay the same when it is started again after `kill`.
    ``append_fsync`` and ``config`` are Redis' ``appendfsync`` and further lines of redis.conf, by name.

    It listens on loopback only, evicts nothing, and writes no snapshots. On Linux it does not outlive this
    process, however that ends, when it was started from the main thread.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        port: int | None = None,
        append_fsync: Literal["everysec", "always"] = "everysec",
        config: Mapping[str, str] | None = None,
    ) -> None:
        self._given_directory = directory
        self._temporary: TemporaryDirectory[str] | None = None
        self._port = port
        self._config = {"appendfsync": append_fsync, **(config or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._port is None:
            raise EmbeddedRedisError("the embedded Redis has no port yet: call start() first")
        return self._port

    @property
    def url(self) -> str:
        """Its address, database 0."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        return self._running().pid

    @property
    def directory(self) -> Path:
        """Where its append-only file, configuration and log are."""
        if self._given_directory is not None:
            return self._given_directory
        if self._temporary is None:
            raise EmbeddedRedisError("the embedded Redis has no directory yet: call start() first")
        return Path(self._temporary.name)

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.directory / "redis.log"

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers. Does nothing while it runs.

        Raises `EmbeddedRedisError` when there is no server on this machine or it does not come up.
        """
        if self._process is not None and self._process.poll() is None:
            return
        program = find_server()
        keep = self._temporary is not None
        self._make_directory()
        try:
            self._lock_directory()
            self._start_on_some_port(program)
        except BaseException:
            self._end_process()
            if not keep:  # on the way back from `kill` it holds data
                self._remove_temporary_directory()
            raise

    def stop(self) -> None:
        """End the server in good order, and remove its directory if that is a temporary one."""
        self._end_process()
        self._remove_temporary_directory()

    def kill(self) -> None:
        """End the server at once (SIGKILL). `start` brings it back with all it had acknowledged."""
        process = self._running()
        process.kill()
        process.wait()
        self._process = None
        self._unlock_directory()

    def freeze(self) -> None:
        """Let it hang: connections stay open and nothing is answered (SIGSTOP)."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze` (SIGCONT)."""
        self._running().send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- inside ---------------------------------------------------------------------------------------

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedRedisError("the embedded Redis is not running: call start() first")
        return self._process

    def _make_directory(self) -> None:
        if self._given_directory is not None:
            self._given_directory.mkdir(parents=True, exist_ok=True)
        elif self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="connectbot-redis-", ignore_cleanup_errors=True)

    def _lock_directory(self) -> None:
        """Keep a second server, of whomever, off the append-only file."""
        self._unlock_directory()
        self._lock = (self.directory / "redis.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EmbeddedRedisError(
                f"another embedded Redis runs in {self.directory}: end it, or use another directory"
            ) from None

    def _unlock_directory(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _start_on_some_port(self, program: Path) -> None:
        """Between finding a free port and using it, somebody else may take it: then another one is tried."""
        if self._port is not None:
            return self._launch(program, self._port)
        for _ in range(PORT_ATTEMPTS - 1):
            try:
                return self._launch(program, free_port())
            except _PortTaken:
                continue
        return self._launch(program, free_port())

    def _launch(self, program: Path, port: int) -> None:
        self._write_config(port)
        with self.log.open("ab") as log:
            log_start = log.tell()
            self._process = subprocess.Popen(  # noqa: S603  the program was found by find_server
                dying_with_us([str(program), "redis.conf"]),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us: we stop the server last
            )
        self._wait_until_it_answers(self._process, port, log_start)
        self._port = port

    def _write_config(self, port: int) -> None:
        # Paths are relative to the working directory: no path needs quoting.
        lines = {
            "bind": HOST,
            "port": str(port),
            "dir": ".",
            "appendonly": "yes",
            "save": '""',
            "auto-aof-rewrite-min-size": APPEND_ONLY_FILE_GROWS_TO,
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
            "logfile": '""',
            **self._config,
        }
        (self.directory / "redis.conf").write_text("".join(f"{name} {value}\n" for name, value in lines.items()))

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes], port: int, log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(process, port):
            if process.poll() is not None:
                self._explain_exit(port, log_start)
            if time.monotonic() > deadline:
                raise EmbeddedRedisError(
                    f"the embedded Redis on port {port} did not answer within {START_SECONDS:.0f} s: "
                    f"{self._last_words(log_start)}"
                )
            time.sleep(0.01)

    def _explain_exit(self, port: int, log_start: int) -> None:
        words = self._last_words(log_start)
        self._process = None
        if "Address already in use" in words:
            raise _PortTaken(f"the embedded Redis cannot have port {port}: another process uses it; choose another")
        raise EmbeddedRedisError(f"the embedded Redis ended at once; its log says: {words}")

    def _last_words(self, log_start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode("utf-8", "replace").split("\n")
        return " / ".join(line.strip() for line in lines if line.strip())[-1000:]

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.send_signal(signal.SIGCONT)  # a frozen one would not hear the first
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._unlock_directory()

    def _remove_temporary_directory(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()
            self._temporary = None


class _PortTaken(EmbeddedRedisError):
    pass


def free_port() -> int:
    """A port of loopback on which nobody listens at this moment."""
    for port in random.SystemRandom().sample(PORTS, k=PORTS_TRIED):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise EmbeddedRedisError(
        f"none of {PORTS_TRIED} ports between {PORTS.start} and {PORTS.stop} is free: stop some servers"
    )


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Whether our own server answers there, and not somebody else's who was quicker to take the port."""
    client = connect(f"redis://{HOST}:{port}/0", socket_timeout=1.0, socket_connect_timeout=1.0)
    try:
        with translated_errors():
            client.ping()
            return bool(client.info("server")["process_id"] == process.pid)
    except RedisUnavailable:
        return False
    finally:
        client.close()
