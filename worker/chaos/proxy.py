"""A TCP proxy before Redis that can lose a connection without telling either side: no FIN, no RST, no answer."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Final

from connectbot.embedded import HOST, free_port

CHUNK_BYTES: Final = 65_536
FORGOTTEN_SECONDS: Final = 20.0
"""How long Redis believes in a connection whose other end has gone silently."""


class Proxy:
    """Passes connections from a port of its own to ``target_port``; runs in a thread of its own."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._links: set[_Link] = set()
        self._silent = False
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-proxy", daemon=True)
        self.port = free_port()

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self._listening.wait()

    def silence(self) -> None:
        """From now on every connection is half-open for good; new ones are accepted by nobody that answers."""
        self._silent = True
        for link in list(self._links):
            link.silent = True

    def resume(self) -> None:
        """New connections reach Redis again. Those that were silent stay so."""
        self._silent = False

    def stop(self) -> None:
        """Close everything."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, HOST, self.port))
        self._listening.set()
        self._loop.run_forever()
        server.close()
        for task in (tasks := asyncio.all_tasks(self._loop)):
            task.cancel()
        self._loop.run_until_complete(asyncio.wait(tasks) if tasks else asyncio.sleep(0))
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(silent=self._silent)
        self._links.add(link)
        try:
            await self._pass_on(link, reader, writer)
        except (OSError, asyncio.CancelledError):  # cancelled by stop() only
            pass
        finally:
            self._links.discard(link)
            writer.close()

    async def _pass_on(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._silent:
            await _read_for_nothing(reader)
            return
        from_redis, to_redis = await asyncio.open_connection(HOST, self._target_port)
        back = asyncio.ensure_future(link.pump(from_redis, writer))
        try:
            await link.pump(reader, to_redis)
            if link.silent:
                await asyncio.sleep(FORGOTTEN_SECONDS)
        finally:
            back.cancel()
            to_redis.close()


class _Link:
    """One connection through the proxy."""

    def __init__(self, *, silent: bool) -> None:
        self.silent = silent

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on what comes, until the end; say nothing more, not even the end, once the link is silent."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if not self.silent:
                    writer.write(chunk)
                    await writer.drain()
        if not self.silent:
            writer.close()


async def _read_for_nothing(reader: asyncio.StreamReader) -> None:
    while await reader.read(CHUNK_BYTES):
        pass
