"""docker-compose.yml: of the right form, closed to the outside, and its checks of health tell well from ill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from connectbot.settings import Settings
from worker.probe_server import Answer, ProbeServer
from worker.routing import TASK_TIME_LIMIT_SECONDS, time_limit_seconds

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = YAML(typ="safe").load(FILE)["services"]

CELERY = {
    "worker-default": "celery -A worker worker -Q default",
    "worker-java": "celery -A worker worker -Q java",
    "beat": "celery -A worker beat",
    "flower": "celery -A worker flower",
}
each_service = pytest.mark.parametrize("name", SERVICES)


def test_it_passes_the_compose_schema() -> None:
    check = ["-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(FILE)]
    done = subprocess.run([sys.executable, *check], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_roles_are_there() -> None:
    assert set(SERVICES) == {"redis", *CELERY, "matching-service"}


@pytest.mark.parametrize("name", CELERY)
def test_a_role_of_ours_is_a_plain_celery_command_of_our_image(name: str) -> None:
    service = SERVICES[name]
    assert service["command"].startswith(CELERY[name])
    assert (service["image"], service["build"]) == ("connectbot-worker", ".")
    assert service["env_file"] == ".env"
    assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}


@pytest.mark.parametrize("name", CELERY)
def test_addresses_of_the_host_do_not_reach_into_the_stack(name: str) -> None:
    environment = SERVICES[name]["environment"]
    assert environment["REDIS_URL"] == "redis://redis:6379/0"
    assert environment["CELERY_BROKER_URL"] == ""
    assert environment["JAVA_SERVICE_URL"] == "http://matching-service:8081"


def test_two_beats_so_that_one_stands_by() -> None:
    assert SERVICES["beat"]["deploy"]["replicas"] == 2


def test_redis_keeps_what_it_is_given() -> None:
    redis = SERVICES["redis"]
    assert int(redis["image"].removeprefix("redis:").split("-")[0].split(".")[0]) >= 7
    assert "--appendonly yes" in redis["command"]
    assert "--auto-aof-rewrite-min-size 128mb" in redis["command"]
    assert "--maxmemory-policy noeviction" in redis["command"]
    assert redis["volumes"] == ["redis-data:/data"]


def test_flower_is_never_without_a_password() -> None:
    assert SERVICES["flower"]["environment"]["FLOWER_BASIC_AUTH"].startswith("${CONNECTBOT_FLOWER_BASIC_AUTH:?")


@each_service
def test_nothing_is_published_but_on_loopback(name: str) -> None:
    assert "network_mode" not in SERVICES[name]
    assert all(str(port).startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))


@each_service
def test_a_service_has_no_more_rights_than_it_needs(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "user" in service or service["image"] == "connectbot-worker"  # whose Dockerfile says so


@each_service
def test_a_service_comes_back_says_how_it_is_and_ends_in_order(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["init"] is True
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", ["worker-default", "worker-java"])
def test_a_worker_has_time_to_finish(name: str) -> None:
    batch = time_limit_seconds(name.removeprefix("worker-"), Settings())
    assert float(SERVICES[name]["stop_grace_period"].removesuffix("s")) > max(TASK_TIME_LIMIT_SECONDS, batch)


def test_what_is_mounted_is_there() -> None:
    service = SERVICES["matching-service"]
    [folder] = [volume.partition(":")[0] for volume in service["volumes"] if volume.endswith(":ro")]
    _, program, *_ = service["command"].split()
    assert (ROOT / folder / program).is_file()


@pytest.mark.parametrize("name", ["worker-default", "worker-java", "beat"])
@pytest.mark.parametrize(("live", "ready"), [(200, 200), (503, 200), (200, 503)])
def test_who_is_alive_and_ready_is_well(name: str, live: int, ready: int) -> None:
    server = ProbeServer("127.0.0.1:0", {"/livez": lambda: Answer(b"", live), "/readyz": lambda: Answer(b"", ready)})
    server.run()
    try:
        assert _checks_well(name, server.address) == (live == ready == 200)
    finally:
        server.stop()
    assert not _checks_well(name, server.address), "nobody is there any more"


def _checks_well(name: str, address: str) -> bool:
    """What a service's own check says, asking at another port than the service's own."""
    host, _, _ = SERVICES[name]["environment"]["CONNECTBOT_PROBES"].partition(":")
    _, _, port = address.partition(":")
    marker, python, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert (marker, python) == ("CMD", "python")
    environment = {**os.environ, "CONNECTBOT_PROBES": f"{host}:{port}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, timeout=30)
    return done.returncode == 0


def test_the_image_runs_as_nobody_in_particular_and_carries_no_secret() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*", "only what is named goes into the image"
