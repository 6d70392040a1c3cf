"""The relay: records/s of one process from intake into the journal, on a broker of its own that nobody else reads.

It finds everything written already, so it goes as fast as it can; time is the broker's, from the first request in the
journal to the last.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from typing import Final

import psutil
from confluent_kafka import Consumer, TopicPartition

from infra.local.settings import Settings
from ingest.publication import Publication
from schemas import config, config_check, kafka, registry, topics
from schemas.wire import HEADER, MAGIC
from tests.bench import producers
from tests.bench.broker import broker
from tests.bench.driver import Stack
from tests.bench.report import Result, Row, Unmeasured

RECORDS: Final = 150_000
TARGET: Final = 10_000.0
LIMIT_S: Final = 180.0
READ: Final = 2_000


async def measure(stack: Stack) -> Result:
    """Fill the intake, then let a relay carry it. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack.addresses.registry)


def drive(url: str) -> Result:
    """The same, without an event loop; `url` is the registry's."""
    with broker([producers.TOPIC]) as settings:
        ids, writer = registry.publish(url), producers.codec_of(url)
        producers.produce(settings.kafka, RECORDS, lambda record: writer.encode("Intake", record))
        document = config.document(config_check.parse({"tenants": {producers.TENANT: {}}}))
        with Publication(settings.kafka, registry.codec(url, ids), "bench") as publication:
            publication.publish(document)
        seconds, cpu_s = carry(settings, url, HEADER.pack(MAGIC, ids["Request"]))
    note = f"{cpu_s * 1e6 / RECORDS:.0f} µs of its CPU a record; nothing holds it back, the journal has no reader"
    return Result([Row("relay, one process, Avro to journal", RECORDS / seconds, "/s", TARGET, ">=", note)])


def carry(settings: Settings, url: str, mark: bytes) -> tuple[float, float]:
    """Seconds from the first request in the journal to the last, and CPU seconds of the relay. Raises Unmeasured."""
    env = {**os.environ, **settings.environment("relay"), "MILLRACE_REGISTRY": url}
    with (settings.home / "relay.log").open("ab") as log:
        relay = subprocess.Popen([sys.executable, "-m", "ingest.relay"], env=env, stdout=log, stderr=log)
    try:
        first, last = requests(settings.kafka, mark)
        times = psutil.Process(relay.pid).cpu_times()
        return (last - first) / 1_000, times.user + times.system
    finally:
        relay.terminate()
        relay.wait(20)


def requests(bootstrap: str, mark: bytes) -> tuple[int, int]:
    """When the broker took the first and the last record that begins with `mark`, ms. Raises Unmeasured."""
    consumer = Consumer(kafka.consumer(bootstrap, "bench", "bench"))
    count = next(t.partitions for t in topics.FIXED if t.name == topics.JOURNAL)
    consumer.assign([TopicPartition(topics.JOURNAL, p, 0) for p in range(count)])
    moments: list[int] = []
    end = time.monotonic() + LIMIT_S
    try:
        while len(moments) < RECORDS:
            if time.monotonic() > end:
                raise Unmeasured(f"{len(moments)} of {RECORDS} records were carried within {LIMIT_S:.0f} s")
            for message in consumer.consume(READ, timeout=0.5):
                value = message.value() or b""
                if message.error() is None and value[: len(mark)] == mark:
                    moments.append(message.timestamp()[1])
        return min(moments), max(moments)
    finally:
        consumer.close()
