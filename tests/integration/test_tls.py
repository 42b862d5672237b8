"""``rediss://`` with client certificates, for every part that talks to Redis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from connectbot.clients import Clients
from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.redis_client import connect
from connectbot.settings import Settings
from tests.failover import running_beat
from tests.support import ROOT, Worker, environment, wait_until
from tests.tls import Authority, Identity, TlsProxy

FROM_V21 = (
    b'{"id":"8","type":"user.created","data":{"user":{"id":8}},"timestamp":"2026-01-01T00:00:00",'
    b'"channel":"connectbot:user:8","user_id":8,"source":"django-connectbot"}'
)
CONNECT_TO_BROKER = """
from worker import app
try:
    app.connection().ensure_connection(max_retries=1)
except Exception as error:
    print(error)
"""


def run(program: str, settings: Settings) -> subprocess.CompletedProcess[str]:
    """Run a few lines of Python in a process of its own, as another team's program would."""
    variables = {**os.environ, **environment(settings)}
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def proxy(authority: Authority, embedded_redis: EmbeddedRedis, redis_url: str) -> Iterator[TlsProxy]:
    with TlsProxy(authority.issue("redis"), authority=authority, target_port=embedded_redis.port) as proxy:
        yield proxy


def address(proxy: TlsProxy, authority: Authority, client: Identity | None, **parameters: str) -> str:
    told = {"ssl_ca_certs": str(authority.certificate), **parameters}
    if client is not None:
        told |= {"ssl_certfile": str(client.certificate), "ssl_keyfile": str(client.key)}
    return f"rediss://{HOST}:{proxy.port}/0?{urlencode(told)}"


def test_all_parts_speak_tls_with_a_client_certificate(proxy: TlsProxy, authority: Authority, tmp_path: Path) -> None:
    url = address(proxy, authority, authority.issue("worker"))
    settings = Settings(redis_url=url)
    ours = Clients.open(settings)
    with running_beat(settings, tmp_path), Worker(settings, tmp_path, lanes=["default"]) as worker:
        worker.wait_ready()
        event = new_event("user.created", {"user": {"id": 7}}, channel="connectbot:global", user_id=7)
        ours.publisher.publish(event)
        wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=15, what="the stream, and orders by the broker")
        wait_until(lambda: ours.redis.get(settings.keys.last_tick), deadline_seconds=20, what="a tick of beat")
        ours.redis.publish("connectbot:user:8", FROM_V21)
        wait_until(lambda: ours.menus.get(8, "main"), deadline_seconds=15, what="what came by pub/sub")
        done = run("from tasks.menus import rebuild; import worker; rebuild.delay([9])", settings)
        assert done.returncode == 0, done.stderr
        wait_until(lambda: ours.menus.get(9, "main"), deadline_seconds=15, what="a task sent from elsewhere")
    ours.redis.close()


def test_who_has_no_certificate_is_turned_away(proxy: TlsProxy, authority: Authority) -> None:
    client = connect(address(proxy, authority, None))
    with pytest.raises(RedisUnavailable):
        Clients.open(Settings(), client=client).stream.ensure_lanes(["default"])
    client.close()


def test_a_server_of_another_authority_is_not_trusted(proxy: TlsProxy, authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "others")
    client = connect(address(proxy, other, authority.issue("worker")))
    with pytest.raises(RedisUnavailable, match="certificate verify failed"):
        Clients.open(Settings(), client=client).stream.ensure_lanes(["default"])
    client.close()


@pytest.mark.parametrize("verified", [True, False])
def test_the_broker_verifies_unless_told_not_to(verified: bool, proxy: TlsProxy, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other", "others")
    parameters = {} if verified else {"ssl_cert_reqs": "none", "ssl_check_hostname": "false"}
    done = run(CONNECT_TO_BROKER, Settings(redis_url=address(proxy, other, None, **parameters)))
    assert ("certificate verify failed" in done.stdout) == verified, done.stdout + done.stderr
