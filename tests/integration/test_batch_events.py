"""The end of a batch is in the log, whatever is killed: on a real Kafka and S3, by a real batcher."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from parts import await_

from infra.local import topics as declared
from ingest import places
from ingest.batch_object import TERMINAL
from schemas import kafka as kafka_settings
from schemas import topics, webhooks

pytest_plugins = ("batch_world",)
pytestmark = pytest.mark.usefixtures("own_processes")


def events(world: World) -> dict[str, list[dict[str, Any]]]:
    """All events of the topic, by batch."""
    consumer = Consumer(kafka_settings.consumer(world.addresses.kafka, "look", "look"))
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        for partition in range(4):
            place = TopicPartition(topics.EVENTS, partition, 0)
            _, high = consumer.get_watermark_offsets(place, 10)
            consumer.assign([place])
            at = 0
            while at < high:
                for message in consumer.consume(500, 1):
                    record = world.codec.decode(message.value() or b"")[1]
                    found.setdefault(record["batch_id"], []).append(record)
                    at = (message.offset() or 0) + 1
    finally:
        consumer.close()
    return found


def marked(world: World, batch_id: str) -> bool:
    return places.open_batch("acme", batch_id) in set(world.storage.keys(places.OPEN))


def test_each_end_is_told(world: World, admission: BatchAdmission) -> None:
    process = world.batcher()
    admission.per_second = 20
    ends = {
        "completed": world.create(jsonl([line(n) for n in range(1, 6)])),
        "failed": world.create(b"not json\n"),
        "expired": world.create(jsonl([line(n) for n in range(1, 400)]), window="3s"),
        "cancelled": world.create(jsonl([line(n) for n in range(1, 400)])),
    }
    await_(lambda: world.get(ends["cancelled"]).status == "in_progress", "lines on their way")
    world.cancel(ends["cancelled"])
    assert world.ended(ends["expired"]).status == "expired", "at 20 lines a second, 399 take longer than its window"
    admission.per_second = 1e9
    for status, batch_id in ends.items():
        batch = world.ended(batch_id)
        assert batch.status == status
        await_(lambda b=batch_id: not marked(world, b), f"the leaving of {batch_id}")
        (event,) = events(world)[batch_id]
        assert event["type"] == f"batch.{status}" and event["tenant"] == "acme"
        assert event["event_id"] == webhooks.event_id(batch_id, f"batch.{status}")
        assert event["created_at"] == 1000 * getattr(batch, f"{status}_at")
    process.terminate()
    assert process.wait(15) == 0


def test_killed_after_the_end_was_stored_and_before_it_was_told(world: World, admission: BatchAdmission) -> None:
    admin = AdminClient({"bootstrap.servers": world.addresses.kafka})
    admin.delete_topics([topics.EVENTS])[topics.EVENTS].result(30)
    await_(lambda: topics.EVENTS not in admin.list_topics(timeout=10).topics, "the end of the topic")
    process = world.batcher()
    batch_id = world.create(jsonl([line(n) for n in range(1, 6)]))
    assert world.ended(batch_id).status == "completed"
    log = world.parts.settings.home / "batcher.log"
    await_(lambda: f"{batch_id}: could not leave" in log.read_text(), "a try in vain")
    assert marked(world, batch_id) and process.poll() is None
    process.kill()
    process.wait()
    declared.make(world.addresses.kafka)
    assert batch_id not in events(world)
    old, process = process.pid, world.batcher()
    assert process.pid != old
    await_(lambda: not marked(world, batch_id), "the leaving of it", 60)
    assert [e["type"] for e in events(world)[batch_id]] == ["batch.completed"]
    process.terminate()
    assert process.wait(15) == 0


def test_killed_again_and_again_while_batches_end(world: World, admission: BatchAdmission) -> None:
    admission.per_second = 1e9
    chance = random.Random(5)
    process = world.batcher()
    batches = [world.create(jsonl([line(n) for n in range(1, 11)])) for _ in range(40)]
    killed = 0
    while any(world.get(b).status not in TERMINAL for b in batches) and killed < 6:
        ended = sum(world.get(b).status in TERMINAL for b in batches)
        await_(lambda n=ended: sum(world.get(b).status in TERMINAL for b in batches) > n, "another end", 60)
        time.sleep(chance.random() * 0.1)
        process.kill()
        process.wait()
        killed += 1
        process = world.batcher()
    assert killed >= 2, "all had ended before any kill: this shows nothing"
    for batch_id in batches:
        assert world.ended(batch_id).status == "completed"
        await_(lambda b=batch_id: not marked(world, b), f"the leaving of {batch_id}", 60)
    found = events(world)
    for batch_id in batches:
        assert {e["event_id"] for e in found[batch_id]} == {webhooks.event_id(batch_id, "batch.completed")}
    print(f"{killed} kills; {sum(len(found[b]) for b in batches)} records for {len(batches)} ends")
    process.terminate()
    assert process.wait(15) == 0
