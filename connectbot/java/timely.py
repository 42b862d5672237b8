"""Connections whose answers are there in time, or not at all.

The timeout of a socket is for each part that comes, and begins anew with the next: a service that sends a byte now and
then could hold a call for ever. Here it is for the whole answer, from its status to the last of its body.

An interim answer (1xx, as 103 Early Hints) is passed over for the one that follows it. http.client does so with 100
only, and would leave what follows others on the connection, for whoever calls next.
"""

from __future__ import annotations

import io
import socket
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.client import HTTPResponse, parse_headers
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection


class _Timely(io.RawIOBase):
    """What a socket receives until its timeout, as it is when this is made, is over."""

    def __init__(self, sock: socket.socket, received: io.RawIOBase) -> None:
        self._sock = sock
        self._received = received
        self._deadline = time.monotonic() + (sock.gettimeout() or 0)  # a call always has a timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the time of the answer is over")
        self._sock.settimeout(left)
        return self._received.readinto(buffer)

    def close(self) -> None:
        self._received.close()
        super().close()


class _Answer(HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_Timely(sock, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        if self.status == HTTPStatus.SWITCHING_PROTOCOLS:  # nobody has asked for it: whatever follows is no answer
            self.will_close = True

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if status >= 200 or status == HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            parse_headers(self.fp)


class _Http(HTTPConnection):
    response_class = _Answer


class _Https(HTTPSConnection):
    response_class = _Answer


CONNECTIONS: Final[Mapping[str | None, type[HTTPConnection]]] = {"http": _Http, "https": _Https}
"""Scheme → what a pool of urllib3 is to make its connections of. urllib3 gives a socket what is left of the call's time
before it has the answer read."""
