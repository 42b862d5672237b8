"""Ask a process of this machine how it is: ``python -m connectbot.probe livez readyz``, for health checks.

The address is that of CONNECTBOT_PROBES unless it is given behind them. Exit status 0 is well, 1 is not, and what was
answered is printed. A file of its own that imports next to nothing: it is started every few seconds.
"""

import os
import socket
import sys

WAIT_SECONDS = 5.0
PROBES = ("livez", "readyz", "metrics")
USAGE = "usage: python -m connectbot.probe livez|readyz|metrics ... [host:port]"


def main(arguments: list[str]) -> int:
    """Ask each of the probes, and print what was answered. Answers the exit status."""
    probes = [word for word in arguments if word in PROBES]
    others = [word for word in arguments if word not in PROBES]
    if not probes or len(others) > 1:
        return _fail(USAGE)
    address = others[0] if others else os.environ.get("CONNECTBOT_PROBES", "")
    host, _, port = address.rpartition(":")
    if not port.isdecimal() or port == "0":
        return _fail("set CONNECTBOT_PROBES to the host:port of the process, or name it behind the probes")
    try:
        answers = [ask(_reachable(host.strip("[]")), int(port), probe) for probe in probes]
    except (OSError, ValueError) as error:
        return _fail(f"nobody answers at {address}: {error}")
    sys.stdout.write("".join(body for _, body in answers))
    return 0 if all(status == 200 for status, _ in answers) else 1


def ask(host: str, port: int, probe: str) -> tuple[int, str]:
    """Status and body of the answer. Raises `OSError` when there is none, `ValueError` when it is not HTTP."""
    with socket.create_connection((host, port), timeout=WAIT_SECONDS) as connection:
        connection.sendall(f"GET /{probe} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head.startswith(b"HTTP/") else _no_http(), body.decode()


def _reachable(host: str) -> str:
    """Where to ask a process that listens at ``host``: one that listens everywhere is asked on loopback."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - asked, not bound


def _no_http() -> int:
    raise ValueError("it does not speak HTTP")


def _fail(reason: str) -> int:
    sys.stderr.write(f"connectbot.probe: {reason}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
