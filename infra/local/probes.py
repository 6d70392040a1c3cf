"""When a service is of use: one question for each, answered by the service itself."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Final

from infra.local import flink
from infra.local.rest import Rest, Unreachable
from infra.local.settings import HOST, Settings

Probe = Callable[[Settings], bool]

_IMPORTING: Final = threading.Lock()


def answers(url: str, wanted: tuple[int, ...] = (200,)) -> bool:
    """Whether a GET ends with one of these statuses within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return response.status in wanted
    except urllib.error.HTTPError as error:
        return error.code in wanted
    except OSError:
        return False


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def load_clients() -> None:
    """Import the clients of Kafka and of the registry, a second's work, in one thread at a time.

    Their modules import each other in a circle: where two threads begin at two ends of it, one of them fails.
    """
    with _IMPORTING:
        import confluent_kafka.admin
        import confluent_kafka.schema_registry  # noqa: F401


def _kafka(settings: Settings) -> bool:
    # The broker opens its port before it can serve, so a connection alone says too little.
    host, _, port = settings.kafka.rpartition(":")
    if not listens(host, int(port)):
        return False
    load_clients()  # which a first look at the port can spare
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        AdminClient({"bootstrap.servers": settings.kafka}).list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def _registry(settings: Settings) -> bool:
    return answers(settings.registry + "/subjects")


def _jobmanager(settings: Settings) -> bool:
    return answers(settings.url("FLINK") + "/overview")


def _taskmanager(settings: Settings) -> bool:
    try:
        return Rest(settings.url("FLINK"), 2).slots() >= sum(flink.SLOTS[: settings.taskmanagers])
    except Unreachable:
        return False


def _s3(settings: Settings) -> bool:
    # A request without a signature is refused by a server that works.
    return answers(settings.url("S3") + "/", (200, 403))


def _redis(settings: Settings) -> bool:
    try:
        with socket.create_connection((settings.host("REDIS"), settings.port("REDIS")), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False


def _connect(settings: Settings) -> bool:
    # Connectors can be asked for only once the worker has read all it knew of them.
    return answers(settings.url("CONNECT") + "/connectors")


def _gateway(settings: Settings) -> bool:
    return answers(f"http://{HOST}:{settings.port('HTTP')}/healthz")


# Services without an entry are of use while their process lives.
PROBES: Final[dict[str, Probe]] = {
    "kafka": _kafka,
    "registry": _registry,
    "jobmanager": _jobmanager,
    "taskmanager": _taskmanager,
    "taskmanager-2": _taskmanager,
    "s3": _s3,
    "redis": _redis,
    "connect": _connect,
    "gateway": _gateway,
}
