"""Addresses of Redis: taken apart, put together for Celery's parts, and shown without what is secret."""

from __future__ import annotations

import os
import subprocess
import sys
import traceback

import kombu
import pytest

from connectbot.errors import RedisUnavailable, SettingsError
from connectbot.redis_client import ANSWER_TIMEOUT_SECONDS, connect, translated_errors
from connectbot.redis_url import RedisAddress
from connectbot.settings import Settings
from tests.support import ROOT, environment
from worker.broker import kombu_url, redbeat_options, redbeat_url, transport_options, use_ssl

SECRET = "hush%2Fhush"
SENTINELS = f"sentinel://me:{SECRET}@h1:1,h2,[::1]:3/svc/4?sentinel_username=s&sentinel_password={SECRET}"
ADDRESSES = {
    "redis://h": RedisAddress(scheme="redis", hosts=(("h", 6379),)),
    f"redis://:{SECRET}@h:1/2": RedisAddress(scheme="redis", hosts=(("h", 1),), database=2, password="hush/hush"),
    "rediss://h:1/2?ssl_ca_certs=/ca&socket_timeout=3": RedisAddress(
        scheme="rediss", hosts=(("h", 1),), database=2, tls={"ssl_ca_certs": "/ca"}, options={"socket_timeout": 3.0}
    ),
    "rediss://h": RedisAddress(scheme="rediss", hosts=(("h", 6379),), tls={}),
    "unix:///run/redis.sock?db=3": RedisAddress(scheme="unix", socket="/run/redis.sock", database=3),
    SENTINELS: RedisAddress(
        scheme="sentinel",
        hosts=(("h1", 1), ("h2", 26379), ("::1", 3)),
        service="svc",
        database=4,
        username="me",
        password="hush/hush",
        sentinel_username="s",
        sentinel_password="hush/hush",
    ),
    "sentinel://h/svc?ssl_ca_certs=/ca": RedisAddress(
        scheme="sentinel", hosts=(("h", 26379),), service="svc", tls={"ssl_ca_certs": "/ca"}
    ),
}


@pytest.mark.parametrize(("url", "address"), ADDRESSES.items())
def test_an_address_is_taken_apart(url: str, address: RedisAddress) -> None:
    assert RedisAddress.parse(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:6379",
        f"http://:{SECRET}@h",
        f"redis://:{SECRET}@h:port/0",
        f"redis://:{SECRET}@h/0?db=one",
        f"sentinel://:{SECRET}@h1:1,h2:2/0x/service",
        f"sentinel://:{SECRET}@h1:1/",
        f"sentinel://:{SECRET}@/service",
        f"redis://:{SECRET}/more@h/0",
        f"redis://h/0?socket_timeout={SECRET}",
        f":{SECRET}@h:6379",
        f"redis://:{SECRET}@a..b:6379/0",
        f"sentinel://:{SECRET}@h1:1,{'a' * 64}/service",
    ],
)
def test_what_cannot_be_read_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(SettingsError, match="the address of Redis") as refused:
        connect(url)
    assert "hush" not in "".join(traceback.format_exception(refused.value))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://me:{SECRET}@h/2", "redis://h:6379/2"),
        (SENTINELS, "sentinel://h1:1,h2:26379,[::1]:3/svc/4"),
        (f"unix:///run/r.sock?password={SECRET}", "unix:///run/r.sock"),
    ],
)
def test_an_address_is_shown_without_what_is_secret(url: str, shown: str) -> None:
    address = RedisAddress.parse(url)
    assert str(address) == shown
    assert "hush" not in repr(address)


@pytest.mark.parametrize("url", ADDRESSES)
def test_kombu_understands_its_form(url: str) -> None:
    address = RedisAddress.parse(url)
    form = kombu_url(url)
    assert "ssl_" not in form, "told in broker_use_ssl"
    connection = kombu.Connection(form, transport_options=transport_options(url, visibility_timeout_seconds=1))
    if not address.socket:
        assert (connection.hostname, connection.port) == address.hosts[0]
        assert (connection.userid or None, connection.password or None) == (address.username, address.password)
        assert int(connection.virtual_host) == address.database


def test_a_broker_with_tls_is_verified_unless_the_url_says_otherwise() -> None:
    assert use_ssl("redis://h") is None
    assert use_ssl("rediss://h") == {"ssl_cert_reqs": "required"}
    assert use_ssl("rediss://h?ssl_cert_reqs=none") == {"ssl_cert_reqs": "none"}
    assert use_ssl("sentinel://h/s?ssl_ca_certs=/ca") == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca"}


def test_every_connection_of_celery_notices_that_it_is_dead() -> None:
    for options in (transport_options("redis://h", visibility_timeout_seconds=1), redbeat_options("redis://h")):
        assert options["socket_timeout"] == ANSWER_TIMEOUT_SECONDS
        assert options["socket_connect_timeout"] == 2
        assert options["socket_keepalive"] is True
        assert options["health_check_interval"] <= 5
    assert redbeat_options("redis://h?socket_timeout=3")["socket_timeout"] == 3


@pytest.mark.parametrize("url", [f"redis://me:{SECRET}@h/2", SENTINELS, f"{SENTINELS}&ssl_ca_certs=/ca"])
def test_no_password_is_shown_by_celery(url: str) -> None:
    assert "hush" not in redbeat_url(url)
    program = (
        "from worker import app; app.finalize();"
        "print(app.conf.table(), app.conf.humanize(), app.bugreport(), app.connection().as_uri())"
    )
    variables = {**os.environ, **environment(Settings(redis_url=url))}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "hush" not in done.stdout + done.stderr


def test_no_password_is_shown_by_settings_and_clients() -> None:
    for url in (f"redis://me:{SECRET}@h/2", SENTINELS):
        settings = Settings(redis_url=url, celery_broker_url=url)
        assert "hush" not in repr(settings)
        assert "hush" not in str(settings)
        assert "hush" not in repr(connect(url))


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_no_password_is_shown_when_redis_cannot_be_reached(scheme: str) -> None:
    client = connect(f"{scheme}://me:{SECRET}@127.0.0.1:1/0")
    with pytest.raises(RedisUnavailable) as refused, translated_errors():
        client.ping()
    assert "hush" not in str(refused.value) + repr(refused.value.__cause__)
