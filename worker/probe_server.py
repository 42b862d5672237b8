"""A small HTTP server beside the work: it answers probes, in threads of its own, and nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from threading import Thread
from typing import Any, Final

from connectbot.errors import SettingsError

REQUEST_SECONDS: Final = 5.0
_serving: weakref.WeakSet[ProbeServer] = weakref.WeakSet()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered to one request."""

    body: bytes
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


Page = Callable[[], Answer]


class ProbeServer:
    """Serves ``pages`` (path → page) at an address, ``host:port``; port 0 takes any that is free.

    Raises `SettingsError` when the address cannot be used.
    """

    def __init__(self, address: str, pages: Mapping[str, Page]) -> None:
        host, _, port = address.rpartition(":")
        host = host.strip("[]")
        try:
            self._server = _server_class(host)((host, int(port)), _handler(pages))
        except (OSError, ValueError, OverflowError) as error:
            raise SettingsError(f"CONNECTBOT_PROBES: cannot listen at {address!r} ({error}): free it, "
                                "name another host:port, or set port 0 for any that is free") from error  # fmt: skip
        bound = self._server.server_address
        self.address = f"[{bound[0]!s}]:{bound[1]}" if ":" in host else f"{bound[0]!s}:{bound[1]}"
        self._thread = Thread(target=self._server.serve_forever, name="probes", daemon=True)
        _serving.add(self)

    def run(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()

    def close_in_child(self) -> None:
        """Let go of the port in a forked process, which might outlive us and keep it."""
        with contextlib.suppress(OSError):
            self._server.socket.close()


def _close_all() -> None:
    for server in tuple(_serving):
        server.close_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_all)


def _server_class(host: str) -> type[ThreadingTCPServer]:
    class Server(ThreadingTCPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        allow_reuse_address = True
        daemon_threads = True
        block_on_close = False

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Who hangs up in the middle is not worth a line in the log."""

    return Server


def _handler(pages: Mapping[str, Page]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_SECONDS
        server_version = "connectbot"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].rstrip("/")
            page = pages.get(path)
            self._send(page() if page else Answer(b"there are " + " ".join(pages).encode() + b"\n", 404))

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Probes come every few seconds: no line for each."""

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)

    return Handler
