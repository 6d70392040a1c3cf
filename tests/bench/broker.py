"""A broker for one benchmark, in a folder of its own and on free ports: nothing of the stack that is up is touched."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from confluent_kafka import KafkaException

from infra.local import topics as declared
from infra.local.services import BY_NAME
from infra.local.settings import HOST, NAMES, Settings
from schemas.topics import Topic
from tests.bench.report import Unmeasured

START_S: Final = 60.0
TRIES: Final = 50


def free_settings(home: Path) -> Settings:
    """Settings of a stack in `home` whose ports are free now. Raises Unmeasured."""
    for _ in range(TRIES):
        base = random.randrange(22_200, 30_000)
        ports = {f"MILLRACE_{name}_PORT": str(base + i) for i, name in enumerate(NAMES)}
        settings = Settings.read({**ports, "MILLRACE_HOME": str(home)})
        if not any(_taken(settings.ports()[name]) for name in ("KAFKA", "KAFKA controller")):
            return settings
    raise Unmeasured("there are no free ports")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@contextmanager
def broker(topics: list[Topic]) -> Iterator[Settings]:
    """Kafka with the fixed topics and `topics`; it and its folder are gone at the end. Raises Unmeasured."""
    home = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    settings, service = free_settings(home), BY_NAME["kafka"]
    (settings.runtime / "cds").mkdir(parents=True, exist_ok=True)
    service.prepare(settings)
    with (home / "kafka.log").open("ab") as log:
        env = {**settings.environment("kafka"), **service.environment(settings)}
        process = subprocess.Popen(service.command(settings), env=env, stdout=log, stderr=log)
    try:
        end = time.monotonic() + START_S
        while not _taken(settings.port("KAFKA")):
            if process.poll() is not None or time.monotonic() > end:
                raise Unmeasured(f"a broker of its own did not start: {home / 'kafka.log'}")
            time.sleep(0.1)
        try:
            declared.make(settings.kafka, [*declared.DECLARED, *topics])
        except KafkaException as error:
            raise Unmeasured(f"a broker of its own did not take topics: {error}") from None
        yield settings
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home, ignore_errors=True)
