"""Connections that are made, and whose answers are there, in time or not at all.

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
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

_SHORTEST_SECONDS: Final = 0.001
"""A socket with a timeout of 0 would not wait at all."""


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

    def _new_conn(self) -> socket.socket:
        """Connect, in the time there is for it, to one of the host's addresses: each has its share of what is left.

        urllib3 alone gives the whole time to each of them.
        """
        name, seconds = self._dns_host, self.timeout or 0.0
        deadline = time.monotonic() + seconds
        addresses = self._addresses()
        try:
            while True:
                self._dns_host = addresses.pop(0)
                left = deadline - time.monotonic()
                self.timeout = max(left / (len(addresses) + 1), _SHORTEST_SECONDS)
                try:
                    sock = super()._new_conn()
                except (NewConnectionError, ConnectTimeoutError):
                    if not addresses:
                        raise
                else:
                    sock.settimeout(seconds)
                    return sock
        finally:
            self._dns_host, self.timeout = name, seconds

    def _addresses(self) -> list[str]:
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, allowed_gai_family(), socket.SOCK_STREAM)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except UnicodeError:
            return [self._dns_host]  # urllib3 says what is wrong with it
        return list(dict.fromkeys(str(address[0]) for *_, address in found))


class _Https(_Http, HTTPSConnection):
    pass


CONNECTIONS: Final[Mapping[str | None, type[HTTPConnection]]] = {"http": _Http, "https": _Https}
"""Scheme → what a pool of urllib3 is to make its connections of. urllib3 gives a socket what is left of the call's time
before it has the answer read."""
