"""The lake job on a real Flink, Kafka and S3: every committed row once, whatever is killed."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from threading import Event, Thread

import pytest
from confluent_kafka import Producer
from parts import Parts, await_
from samples import record

from infra.local.jobs import JOBS, Keeper
from schemas.addresses import Addresses
from schemas.wire import Codec
from streams import lake_sql

FRESH_S = 30


@pytest.fixture
def keeper(parts: Parts, kafka: str, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Flink cluster whose lake job is submitted, and submitted again when it is forgotten."""
    for name, value in parts.settings.environment("jobs").items():
        monkeypatch.setenv(name, value)
    for name in ("s3", "jobmanager", "taskmanager"):
        parts.start(name)
    stop = Event()
    (job,) = [job for job in JOBS if job.name == "lake"]
    thread = Thread(target=Keeper(parts.settings, job, stop).run)
    thread.start()
    yield
    stop.set()
    thread.join()
    for name in ("taskmanager", "jobmanager", "s3"):
        parts.stop(name, kill=True)


class Feed:
    """Writes usage and responses in transactions, some of which it takes back."""

    def __init__(self, kafka: str, codec: Codec) -> None:
        self._codec = codec
        self._producers = {end: self._producer(kafka) for end in ("commit", "abort")}
        self.committed: set[str] = set()

    @staticmethod
    def _producer(kafka: str) -> Producer:
        producer = Producer({"bootstrap.servers": kafka, "transactional.id": uuid.uuid4().hex})
        producer.init_transactions(30)
        return producer

    def write(self, rows: int, *, end: str = "commit") -> None:
        """One transaction of `rows` requests."""
        producer, ids = self._producers[end], [str(uuid.uuid4()) for _ in range(rows)]
        producer.begin_transaction()
        for request_id in ids:
            same = {"request_id": request_id, "tenant": "acme", "completed_at": time.time_ns() // 1_000_000}
            usage = record("Usage", input_tokens=5, output_tokens=7, **same)
            response = record("Response", body='{"text":"é"}', **same)
            producer.produce("usage", self._codec.encode("Usage", usage), b"acme")
            producer.produce("responses", self._codec.encode("Response", response), b"acme")
        if end == "abort":
            producer.flush(30)
            producer.abort_transaction(30)
        else:
            producer.commit_transaction(30)
            self.committed |= set(ids)


def query(parts: Parts, sql: str) -> list[tuple[object, ...]]:
    """Rows of a query over the lake as it is now."""
    rows: list[tuple[object, ...]] = lake_sql.connect(Addresses.of(parts.environment("sql"))).execute(sql).fetchall()
    return rows


def test_every_committed_row_lands_once(parts: Parts, kafka: str, codec: Codec, keeper: None) -> None:
    feed = Feed(kafka, codec)

    def landed() -> bool:
        return query(parts, "SELECT count(*) FROM usage") == [(len(feed.committed),)]

    feed.write(200)
    feed.write(50, end="abort")
    await_(landed, "the first rows", 90)
    feed.write(10)
    await_(landed, "rows of a running job", FRESH_S)

    feed.write(300)
    parts.stop("taskmanager", kill=True)
    feed.write(300)
    parts.start("taskmanager")
    feed.write(300)
    await_(landed, "rows around a killed TaskManager", 120)

    feed.write(300)
    for name in ("jobmanager", "taskmanager"):
        parts.stop(name, kill=True)
    feed.write(300, end="abort")
    feed.write(300)
    for name in ("jobmanager", "taskmanager"):
        parts.start(name)
    await_(landed, "rows around a forgotten job", 180)

    assert {row[0] for row in query(parts, "SELECT request_id FROM usage")} == feed.committed
    orphans = (
        "SELECT count(*) FROM usage FULL JOIN responses USING (tenant, request_id) WHERE body IS NULL OR pool IS NULL"
    )
    assert query(parts, orphans) == [(0,)]
    sums = 'SELECT sum(input_tokens), sum(output_tokens), count(DISTINCT request_id), bool_and(body = \'{"text":"é"}\')'
    rows = len(feed.committed)
    assert query(parts, f"{sums} FROM usage JOIN responses USING (request_id)") == [(5 * rows, 7 * rows, rows, True)]
    late = "SELECT count(*) FROM usage WHERE abs(epoch_ms(completed_at) - epoch_ms(now())) > 600000"
    assert query(parts, late) == [(0,)]
    wrong = "SELECT count(*) FROM usage WHERE dt <> completed_at::DATE OR hour <> extract(hour FROM completed_at)"
    assert query(parts, wrong) == [(0,)]
