"""The services of a stack, declared once: how each is started and what it listens on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from infra.local import connect, flink, kafka, storage
from infra.local.settings import Settings

Command = Callable[[Settings], list[str]]
Prepare = Callable[[Settings], None]
Environment = Callable[[Settings], dict[str, str]]


def _nothing(settings: Settings) -> None:
    del settings


def _plain(settings: Settings) -> dict[str, str]:
    del settings
    return {}


@dataclass(frozen=True, slots=True)
class Service:
    """A long-running process. `ports` are names in Settings.ports; `stop_s` is how long it may take to stop."""

    name: str
    command: Command
    ports: tuple[str, ...] = ()
    prepare: Prepare = _nothing
    environment: Environment = _plain
    stop_s: int = 15


def _module(name: str) -> Command:
    return lambda settings: [str(settings.venv / "bin" / "python"), "-m", name]


def _signals(worker: str) -> Environment:
    return lambda settings: {"MILLRACE_SIGNALS_PORT": str(settings.ports()[f"HTTP signals of {worker}"])}


SECOND: Final = "taskmanager-2"
WORKERS: Final = ("worker-1", "worker-2")
PARTS: Final = (
    Service("kafka", kafka.command, ("KAFKA", "KAFKA controller", "KAFKA users"), kafka.prepare, stop_s=30),
    Service("registry", storage.registry_command, ("REGISTRY", "REGISTRY management"), storage.registry_prepare),
    Service(
        "jobmanager",
        flink.jobmanager,
        ("FLINK", "FLINK jobmanager", "FLINK blobs", "FLINK metrics of the jobmanager"),
        flink.fresh("jobmanager"),
        flink.environment,
    ),
    Service(
        "taskmanager",
        flink.taskmanager,
        ("FLINK taskmanager", "FLINK data", "FLINK metrics of the taskmanager"),
        flink.fresh("taskmanager"),
        flink.environment,
    ),
    # Only where MILLRACE_TASKMANAGERS asks for it.
    Service(
        SECOND,
        flink.second_taskmanager,
        ("FLINK taskmanager-2", "FLINK data of taskmanager-2", "FLINK metrics of the taskmanager-2"),
        flink.fresh(SECOND),
        flink.environment,
    ),
    Service("s3", storage.s3_command, ("S3",), storage.s3_prepare),
    Service("redis", storage.redis_command, ("REDIS",), storage.redis_prepare),
    # Only where `make up CONNECT=1` asks for it.
    Service(connect.NAME, connect.command, ("CONNECT",), connect.prepare),
)
OURS: Final = (
    Service("gateway", _module("ingest.gateway"), ("HTTP",)),
    Service("relay", _module("ingest.relay")),
    Service("controller", _module("ingest.controller")),
    Service("batcher", _module("ingest.batcher")),
    # A worker finishes what it runs within 20 s.
    *(
        Service(name, _module("workers.main"), (f"HTTP signals of {name}",), environment=_signals(name), stop_s=25)
        for name in WORKERS
    ),
    Service("live", _module("streams.live")),
    Service(
        "compactor",
        _module("streams.compactor"),
        ("HTTP signals of compactor",),
        environment=_signals("compactor"),
        # A partition that is being written is given up: the next one begins it anew.
        stop_s=5,
    ),
    # Brings the Flink jobs back after a JobManager died: a lone JobManager remembers nothing.
    Service("jobs", _module("infra.local.jobs"), prepare=flink.fresh("flink-client")),
)
ALL: Final = (*PARTS, *OURS)
BY_NAME: Final = {service.name: service for service in ALL}


def of(settings: Settings) -> tuple[Service, ...]:
    """The services of this stack, Kafka Connect aside."""
    left_out = {connect.NAME} if settings.taskmanagers > 1 else {connect.NAME, SECOND}
    return tuple(service for service in ALL if service.name not in left_out)
