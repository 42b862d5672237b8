"""A stand-in for the Java matching service, in Python: ``python -m connectbot.testing.matching_service --port 8080``.

It speaks the endpoints of contract v21, pairs people across departments, honours ``Idempotency-Key``, and can
be told to misbehave: by options when it starts, by `MatchingService.switch` inside a test, or over HTTP:

- ``/__switches``: GET tells them, PUT changes those in its JSON object, DELETE returns to those of the start;
- ``/__calls``: GET tells what came, by Idempotency-Key, oldest first; DELETE forgets it.

``examples/matching-service/MatchingService.java`` is the same in Java; one suite of contract tests holds both.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from connectbot.testing.matching_calls import Call, Calls
from connectbot.testing.matching_rules import ENDPOINTS, HEALTH, NotUnderstood, failure, pair, read, request_id, result
from connectbot.testing.matching_switches import Switches, add_options

HEADERS_OF_INTEREST: Final = ("Content-Type", "X-Request-ID", "traceparent")


class MatchingService:
    """The stand-in, running in threads of this process while it is entered.

    ``port`` 0 takes any free one. Example: ``with MatchingService(status=503) as service:`` and then
    ``service.url``, ``service.switch(status=0)``, ``service.calls.shown()``.
    """

    def __init__(self, *, host: str = "127.0.0.1", port: int = 0, **switches: Any) -> None:
        self.calls = Calls()
        self._at_start = self._switches = Switches().changed(switches)
        self._news = threading.Condition()
        self._ended = threading.Event()
        self._server = _Server((host, port), self)
        self.url = f"http://{host}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="matching service")

    def __enter__(self) -> MatchingService:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        with self._news:
            self._ended.set()
            self._news.notify_all()
        self._server.hang_up()
        self._server.server_close()
        self._thread.join()

    @property
    def switches(self) -> Switches:
        """How it behaves now."""
        return self._switches

    def switch(self, **changes: Any) -> None:
        """Change some switches. Raises `NotUnderstood` when one does not exist or a value does not fit."""
        self.apply(self._switches.changed(changes))

    def reset(self) -> None:
        """Return to the switches of the start."""
        self.apply(self._at_start)

    def apply(self, switches: Switches) -> None:
        """Behave so from now on."""
        with self._news:
            self._switches = switches
            self._news.notify_all()

    def pause(self) -> Switches:
        """Let the time of an answer pass. Answers the switches that it obeys. Raises `_HangUp` after a hang."""
        switches = self._switches
        self._ended.wait(switches.latency_ms / 1000)
        if switches.hang:
            with self._news:
                self._news.wait_for(lambda: self._ended.is_set() or not self._switches.hang)
            raise _HangUp
        return switches


class _HangUp(Exception):
    """Close the connection without an answer."""


class _Reply(NamedTuple):
    """An answer: text as bytes, or a value to be written as JSON. ``half``: only half of it is to leave."""

    status: int
    body: Any
    headers: Mapping[str, str] = {}
    half: bool = False


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], service: MatchingService) -> None:
        self.service = service
        self._connections: set[socket.socket] = set()
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        self._connections.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """Close all connections: a service that is away does not go on answering over old ones."""
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # the caller was faster

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that hangs up is no news; all else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together: the second of two writes would wait for a delayed ACK
    disable_nagle_algorithm = True
    server: _Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            self._route()(body)
        except NotUnderstood as error:
            self._answer(400, failure(f"bad_request: {error}"))
        except _HangUp:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 - the names that http.server looks for

    def log_message(self, *args: Any) -> None:
        """Say nothing: ``/__calls`` tells what came."""

    def _route(self) -> Callable[[bytes], None]:
        routes: dict[str, dict[str, Callable[[bytes], None]]] = {
            HEALTH: {"GET": self._health},
            "/__switches": {"GET": self._tell_switches, "PUT": self._put_switches, "DELETE": self._reset_switches},
            "/__calls": {"GET": self._tell_calls, "DELETE": self._forget_calls},
            **{path: {"POST": self._match} for path in ENDPOINTS},
        }
        methods = routes.get(urlsplit(self.path).path, {})
        if self.command in methods:
            return methods[self.command]
        status, reason = (405, "method_not_allowed") if methods else (404, "not_found")
        return lambda _: self._answer(status, failure(reason))

    # --- the endpoints of the contract

    def _health(self, _: bytes) -> None:
        switches = self.server.service.pause()
        well = not switches.degraded and switches.status < 500
        self._answer(200 if well else 503, {"status": "OK" if well else "DEGRADED"})

    def _match(self, body: bytes) -> None:
        service = self.server.service
        if service.switches.token and self.headers.get("Authorization") != f"Service {service.switches.token}":
            self._answer(401, failure("unauthorized"))
            return
        call, number = service.calls.begin(self._call(body))
        try:
            reply = self._reply(call, number, body)
        finally:
            service.calls.end()  # before the answer leaves: its caller's next call must not be counted beside it
        self._send(reply)

    def _call(self, body: bytes) -> Call:
        headers = {name.lower(): self.headers[name] for name in HEADERS_OF_INTEREST if name in self.headers}
        if "Authorization" in self.headers:
            headers["authorization"] = self.headers["Authorization"].partition(" ")[0]
        return Call(
            key=self.headers.get("Idempotency-Key", ""),
            path=urlsplit(self.path).path,
            request_id=request_id(body) or self.headers.get("X-Request-ID"),
            headers=headers,
        )

    def _reply(self, call: Call, number: int, body: bytes) -> _Reply:
        switches = self.server.service.pause()
        if switches.fail(number):
            retry = {"Retry-After": switches.retry_after} if switches.retry_after else {}
            return _Reply(switches.status or 500, failure("switched", request_id=call.request_id), headers=retry)
        if switches.error:
            return _Reply(200, failure(switches.error, request_id=call.request_id))
        if switches.wrong_json:
            return _Reply(200, b"<html>this is no JSON</html>")
        answer = call.answer or _json(self._result(call, body, switches))
        if call.key:
            call.answer = answer
        return _Reply(200, answer, half=switches.half)

    def _result(self, call: Call, body: bytes, switches: Switches) -> dict[str, Any]:
        algorithm, who_is_asked = ENDPOINTS[call.path]
        return result(
            pair(who_is_asked(read(body), parse_qs(urlsplit(self.path).query))),
            request_id=call.request_id,
            algorithm=algorithm,
            pair_shape=switches.pair_shape,
            list_unmatched=switches.list_unmatched,
        )

    # --- what tests ask

    def _tell_switches(self, _: bytes) -> None:
        self._answer(200, self.server.service.switches.shown())

    def _put_switches(self, body: bytes) -> None:
        service = self.server.service
        service.apply(service.switches.changed(read(body)))
        self._tell_switches(body)

    def _reset_switches(self, body: bytes) -> None:
        self.server.service.reset()
        self._tell_switches(body)

    def _tell_calls(self, _: bytes) -> None:
        self._answer(200, self.server.service.calls.shown())

    def _forget_calls(self, body: bytes) -> None:
        self.server.service.calls.forget()
        self._tell_calls(body)

    def _answer(self, status: int, answer: Any) -> None:
        self._send(_Reply(status, answer))

    def _send(self, reply: _Reply) -> None:
        body = reply.body if isinstance(reply.body, bytes) else _json(reply.body)
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if reply.half else body)
        self.close_connection = self.close_connection or reply.half


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def main() -> None:
    """Run the stand-in until it is told to end."""
    parser = argparse.ArgumentParser(prog="matching_service", description="A stand-in for the Java matching service.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080, help="port to listen on; 0: any free one")
    add_options(parser)
    options = vars(parser.parse_args())
    try:
        ours = MatchingService(**options)
    except OSError as error:
        parser.exit(1, f"The address cannot be listened on, choose another --port: {error.strerror}\n")
    with ours as service:
        print(f"matching service on {service.url}", flush=True)  # noqa: T201 - this line is how others find it
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
