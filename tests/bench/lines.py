"""Lines of a batch to Kafka when nothing holds them back: the batcher's own reading, windows and sending, into a topic
of the benchmark's. Admission is played by whoever answers at once, so what is measured is the batcher alone.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from confluent_kafka import OFFSET_END, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.local import topics as infra_topics
from ingest import batch_object, ids, places
from ingest.batch_document import Document, Private
from ingest.batch_feed import Feed
from ingest.batch_models import Models
from ingest.batch_object import Batch
from ingest.batch_run import BatchRun
from ingest.services import s3_client
from ingest.storage import Storage
from schemas import kafka, topics
from tests.bench import input, validation
from tests.bench.driver import Stack, say
from tests.bench.report import Result, Row, Unmeasured

LINES: Final = 150_000
# The measured speed of admission, which the slices follow, takes two seconds to be known.
WARM: Final = 50_000
TARGET: Final = 15_000.0
FLUSH_S: Final = 30.0
TOPIC: Final = topics.replies("millrace-bench-lines")
TENANT: Final = "millrace-bench"


async def measure(stack: Stack) -> Result:
    """One run. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    if "echo" not in stack.document.models:
        raise Unmeasured("the live configuration has no model echo")
    # It must outlive what it is asked: without it nobody answers.
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    infra_topics.make(stack.addresses.kafka, (TOPIC,))
    storage = Storage(s3_client(stack.addresses), stack.addresses.bucket)
    file_id = uuid.uuid4().hex
    place = places.file_content(TENANT, file_id)
    validation.upload(storage, place, WARM + LINES)
    say(f"lines: {LINES:,} lines after {WARM:,} to warm up")
    try:
        seconds, cpu_s = send(stack, storage, file_id)
    finally:
        storage.delete([place])
        everything = [TopicPartition(TOPIC.name, p, OFFSET_END) for p in range(TOPIC.partitions)]
        for future in admin.delete_records(everything).values():
            future.result()
    note = f"CPU of the batcher's process: {cpu_s * 1e6 / LINES:.0f} µs a line; every line acknowledged by Kafka"
    return Result([Row("lines to Kafka, nothing holding them back", LINES / seconds, "/s", TARGET, ">=", note)])


def send(stack: Stack, storage: Storage, file_id: str) -> tuple[float, float]:
    """(seconds, CPU seconds of this process) from line WARM to the acknowledgement of the last one."""
    now_ms = time.time_ns() // 1_000_000
    created = Batch(ids.newest_first(ids.BATCH, now_ms, b""), input.ENDPOINT, file_id, "24h", 0, 0)
    batch = batch_object.started(created, WARM + LINES, "echo", 0)
    private = Private(TENANT, "bench", now_ms, now_ms + 86_400_000, validated=True)
    run, models = BatchRun(Document(batch, private), ""), Models(stack.document)
    producer = Producer(kafka.producer(stack.addresses.kafka, "bench", linger_ms=5))
    began = cpu = 0.0
    with ThreadPoolExecutor(1) as readers:
        feed = Feed(producer, stack.codec, storage, readers, lambda: models, TOPIC.name)
        while not run.all_sent:
            now_ms = time.time_ns() // 1_000_000
            sent = feed.slice([run], now_ms)
            for line in list(run.open):
                del run.open[line]
                feed.admitted(ids.request_id(run.id, line), now_ms)
                feed.finished(run, 1, now_ms)
            if not began and run.position[0] > WARM:
                began, cpu = time.monotonic(), time.process_time()
            producer.poll(0 if sent else 0.001)
        if producer.flush(FLUSH_S):
            raise Unmeasured(f"Kafka took not all lines within {FLUSH_S:.0f} s")
    return time.monotonic() - began, time.process_time() - cpu
