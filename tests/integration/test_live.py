"""The live application on a real Kafka and Redis: counts once, survives kills, and counts anew what Redis lost."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import Producer
from parts import Parts, await_
from processes import Process
from redis import Redis
from samples import record

from schemas.wire import Codec
from streams import progress

LINES = 500


@pytest.fixture
def redis(parts: Parts) -> Iterator[Redis]:
    """An empty Redis."""
    parts.start("redis")
    client = Redis.from_url(parts.environment("test")["MILLRACE_REDIS"], decode_responses=True)
    yield client
    client.close()
    parts.stop("redis")


@pytest.fixture
def live(parts: Parts, kafka: str, codec: Codec, redis: Redis) -> Iterator[Process]:
    """The application."""
    process = Process(parts, "live", "streams.live")
    yield process
    process.popen.kill()
    process.popen.wait(10)


def _result(batch_id: str, line: int) -> dict[str, Any]:
    failed = line % 10 == 0
    status, http_status = ("failed", 500) if failed else ("completed", 200)
    return record("BatchResult", batch_id=batch_id, line=line, status=status, http_status=http_status)


def _write(kafka: str, codec: Codec, rows: int, tenant: str, batch_id: str = "", *, commit: bool = True) -> None:
    producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex, "compression.type": "lz4"})
    producer.init_transactions(30)
    producer.begin_transaction()
    for _ in range(rows):
        now_ms = time.time_ns() // 1_000_000
        numbers = {"input_tokens": 5, "output_tokens": 7, "cost_micros": 3}
        row = record("Usage", request_id=uuid.uuid4().hex, tenant=tenant, completed_at=now_ms, **numbers)
        row |= {"lane": "batch" if batch_id else "standard", "batch_id": batch_id}
        producer.produce("usage", codec.encode("Usage", row), tenant.encode())
    producer.flush(30)
    producer.commit_transaction(30) if commit else producer.abort_transaction(30)


def _sums(redis: Redis, tenant: str, of: str = ":*") -> tuple[int, ...]:
    rows = [redis.hgetall(key) for key in redis.scan_iter(f"usage:{tenant}{of}")]
    names = ("requests", "input_tokens", "output_tokens", "cost_micros")
    return tuple(sum(int(row[name]) for row in rows) for name in names)


def _whole(rows: int) -> tuple[int, ...]:
    return (rows, 5 * rows, 7 * rows, 3 * rows)


def test_counts_once_and_counts_anew(parts: Parts, kafka: str, codec: Codec, redis: Redis, live: Process) -> None:
    tenant, batch_id = f"t-{uuid.uuid4().hex[:8]}", f"batch_{uuid.uuid4().hex}"
    _write(kafka, codec, 100, tenant)
    _write(kafka, codec, 200, tenant, batch_id)
    _write(kafka, codec, 70, tenant, batch_id, commit=False)
    await_(lambda: _sums(redis, tenant) == _whole(300), "the first rows", 60)
    assert _sums(redis, tenant, f"/{batch_id}") == _sums(redis, tenant, "/batch:*") == _whole(200)
    assert _sums(redis, tenant, "/standard:*") == _whole(100)

    plain = Producer({"bootstrap.servers": kafka})
    for line in [*range(1, LINES + 1), *range(1, LINES // 2)]:
        plain.produce("batch_results", codec.encode("BatchResult", _result(batch_id, line)), batch_id.encode())
    plain.produce("batch_results", b"not a record", batch_id.encode())
    plain.flush(30)
    counts = {"completed": "450", "failed": "50", "input_tokens": "500", "output_tokens": "500"}
    await_(lambda: redis.hgetall(progress.counts_key(batch_id)) == counts, "the batch's lines")
    await_(lambda: live.said("left out"), "a line about the broken record")
    assert redis.bitcount(progress.progress_key(batch_id)) == LINES

    _write(kafka, codec, 200, tenant)
    live.kill()
    live.start()
    _write(kafka, codec, 200, tenant)
    await_(lambda: _sums(redis, tenant) == _whole(700), "rows around a kill", 60)

    redis.flushall()
    _write(kafka, codec, 100, tenant)
    await_(lambda: _sums(redis, tenant) == _whole(800), "the view, counted anew", 60)
    await_(lambda: redis.hgetall(progress.counts_key(batch_id)) == counts, "progress, counted anew", 60)
    assert live.popen.poll() is None

    parts.stop("redis", kill=True)
    _write(kafka, codec, 50, tenant)
    await_(lambda: live.said("redis is away"), "a line about Redis")
    began = time.monotonic()
    assert live.stop() == 0
    assert time.monotonic() - began < 10
    parts.start("redis")
    live.start()
    await_(lambda: _sums(redis, tenant) == _whole(850), "an empty Redis, counted anew", 60)

    # Told to stop while it leaves in order to count anew, it stops.
    text = "the live view in Redis is gone"
    before = live.log.read_text().count(text)
    redis.flushall()
    await_(lambda: live.log.read_text().count(text) > before, "the loss to be seen")
    assert live.stop() == 0
