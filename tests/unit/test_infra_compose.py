from __future__ import annotations

import re
import shlex
from typing import Any

import pytest
import yaml

from infra.local.probes import PROBES
from infra.local.services import ALL, BY_NAME, OURS
from infra.local.settings import CHECKOUT, HOST, NAMES, Settings, parse

VALUES = parse((CHECKOUT / "infra" / "settings.env").read_text())
# Where a service is reached, by the setting that says so.
HOSTS = {
    "MILLRACE_KAFKA_HOST": "kafka",
    "MILLRACE_REGISTRY_HOST": "registry",
    "MILLRACE_FLINK_HOST": "jobmanager",
    "MILLRACE_CONNECT_HOST": "connect",
    "MILLRACE_TASKMANAGER_HOST": "taskmanager",
    "MILLRACE_S3_HOST": "s3",
    "MILLRACE_REDIS_HOST": "redis",
}


def substituted(text: str) -> str:
    """The file as docker compose sees it, given --env-file infra/settings.env."""
    return re.sub(r"\$\{(\w+)\}", lambda found: VALUES[found[1]], text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(substituted((CHECKOUT / "docker-compose.yml").read_text()))
    return document


def test_the_services_are_the_same(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {*BY_NAME, "setup"}


def test_each_service_is_started_by_the_same_launcher(compose: dict[str, Any]) -> None:
    for service in ALL:
        declared = compose["services"][service.name]
        assert declared["command"] == [service.name]
        assert "entrypoint" not in declared
        assert declared["restart"] == "unless-stopped"
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["python", "-m", "infra.local.launch"]' in dockerfile
    assert compose["services"]["setup"]["entrypoint"] == ["python", "-m", "infra.local"]


def test_every_setting_of_the_file_reaches_the_containers(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        environment = {key: str(value) for key, value in service["environment"].items()}
        own = {"MILLRACE_HOME": "/state", "MILLRACE_BIND": "0.0.0.0", **HOSTS}
        # Of two TaskManagers each tells its own name.
        host = {"MILLRACE_TASKMANAGER_HOST": name} if name.startswith("taskmanager") else {}
        assert environment == {**VALUES, **own, **host}, name


def test_the_hosts_named_are_services(compose: dict[str, Any]) -> None:
    assert set(HOSTS) == {name for name in VALUES if name.endswith("_HOST")}
    assert set(HOSTS.values()) <= set(compose["services"])


def test_the_ports_published_are_the_first_of_each_service(compose: dict[str, Any]) -> None:
    settings = Settings.read({})
    for service in ALL:
        public = [settings.port(name) for name in service.ports if name in NAMES]
        declared = compose["services"][service.name].get("ports", [])
        assert declared == [f"{HOST}:{port}:{port}" for port in public]


def test_health_is_asked_by_the_same_probes(compose: dict[str, Any]) -> None:
    for service in ALL:
        check = compose["services"][service.name].get("healthcheck")
        assert (check is not None) == (service.name in PROBES)
        if check:
            assert check["test"] == ["CMD", "python", "-m", "infra.local", "ready", service.name]


def test_our_processes_wait_for_topics_and_schemas(compose: dict[str, Any]) -> None:
    for service in OURS:
        needs = compose["services"][service.name]["depends_on"]
        assert needs["setup"]["condition"] == "service_completed_successfully"


def test_state_outlives_the_containers(compose: dict[str, Any]) -> None:
    assert all(service["volumes"] == ["state:/state"] for service in compose["services"].values())
    assert "state" in compose["volumes"]


def test_the_image_copies_what_the_installation_reads() -> None:
    dockerfile = (CHECKOUT / "Dockerfile").read_text()
    copied: set[str] = set()
    for line in dockerfile.split("FROM")[1].splitlines():
        if line.startswith("COPY"):
            copied.update(shlex.split(line)[1:-1])
    assert all((CHECKOUT / path).exists() for path in copied)
    needed = {"requirements.lock", "infra/settings.env", "infra/local/install.py", "infra/local/settings.py"}
    assert needed | {"infra/local/pom.xml", "ingest/connect", "schemas/avro"} <= copied
    assert "python:3.11" in dockerfile
