"""The relay as a process, on a real broker and registry."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from parts import Parts, await_
from processes import Process, apply
from topic_reader import Reader

from ingest.arrival import Arrival, identity
from schemas import kafka as settings
from schemas import registry, topics
from schemas.wire import Codec

CONFIG = Path(__file__).parents[2] / "config"
HELLO = [{"role": "user", "content": "hello"}]
JSON = [("content-type", b"application/json")]


@pytest.fixture(scope="module")
def relay(parts: Parts, kafka: str, codec: Codec) -> Iterator[Process]:
    done = apply(parts, CONFIG)
    assert done.returncode == 0, done.stderr
    process = Process(parts, "relay", "ingest.relay")
    yield process
    assert process.stop() == 0


@pytest.fixture
def journal(relay: Process, kafka: str, codec: Codec) -> Reader:
    return Reader(kafka, codec, topics.JOURNAL)


@pytest.fixture
def letters(relay: Process, kafka: str, codec: Codec) -> Reader:
    return Reader(kafka, codec, topics.DEAD_LETTERS)


@pytest.fixture
def producer(kafka: str) -> Producer:
    return Producer(settings.producer(kafka, "device"))


def test_avro_and_json_become_requests(
    journal: Reader, producer: Producer, codec: Codec, parts: Parts, kafka: str
) -> None:
    schema_id = registry.publish_intake(parts.environment("test")["MILLRACE_REGISTRY"], "acme")
    avro = codec.encode("Intake", {"messages": HELLO, "model": "echo", "id": "device-1", "correlation_id": "c1"})
    avro = avro[:1] + schema_id.to_bytes(4, "big") + avro[5:]
    places: list[Any] = []
    producer.produce("intake.acme", avro, on_delivery=lambda _e, m: places.append(m))
    plain = json.dumps({"messages": HELLO, "temperature": 0}).encode()
    producer.produce("intake.globex", plain, headers=JSON, on_delivery=lambda _e, m: places.append(m))
    assert producer.flush(10) == 0
    first, second = sorted(journal.take("Request", 2), key=lambda r: str(r["tenant"]))
    assert (first["tenant"], first["request_id"], first["correlation_id"]) == ("acme", "device-1", "c1")
    (place,) = [m for m in places if m.topic() == "intake.globex"]
    expected = identity(Arrival("intake.globex", place.partition(), place.offset(), None, None))
    assert (second["tenant"], second["request_id"]) == ("globex", expected)
    assert json.loads(second["body"]) == {"messages": HELLO, "temperature": 0.0}


def test_bad_records_are_set_aside_and_the_next_goes_on(
    journal: Reader, letters: Reader, producer: Producer, codec: Codec
) -> None:
    good = codec.encode("Intake", {"messages": HELLO, "id": "after-the-bad"})
    unknown = b"\x00\x7f\xff\xff\xf0" + good[5:]
    bad = [unknown, good[:-3], b"\xca\xfe", b""]
    for value in bad:
        producer.produce("intake.acme", value, key=b"k", partition=0)
    producer.produce("intake.acme", b"{", headers=JSON, partition=0)
    producer.produce("intake.acme", good, partition=0)
    assert producer.flush(10) == 0
    set_aside = letters.take("DeadLetter", 5)
    assert [letter["value"] for letter in set_aside] == [*bad, b"{"]
    assert "unknown schema id" in set_aside[0]["reason"]
    assert set_aside[0]["schema_id"] == 0x7FFFFFF0
    assert {letter["source_topic"] for letter in set_aside} == {"intake.acme"}
    assert set_aside[0]["key"] == b"k"
    assert [r["request_id"] for r in journal.take("Request", 1)] == ["after-the-bad"]


def test_time_passes_in_every_partition(journal: Reader) -> None:
    began = time.monotonic()
    journal.take("Tick", 16, timeout_s=10)
    assert time.monotonic() - began > 0.5, "sixteen ticks are four rounds"
    assert {partition for partition, kind, _ in journal.seen if kind == "Tick"} == {0, 1, 2, 3}
    assert all(record["partition"] == partition for partition, kind, record in journal.seen if kind == "Tick")


def test_a_tenant_added_later_is_heard(journal: Reader, producer: Producer, parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("tenants: {acme: {}, globex: {}, newcomer: {}}")
    try:
        assert apply(parts, tmp_path).returncode == 0
        producer.produce("intake.newcomer", json.dumps({"messages": HELLO}).encode(), headers=JSON)
        assert producer.flush(10) == 0
        assert journal.take("Request", 1)[0]["tenant"] == "newcomer"
    finally:
        assert apply(parts, CONFIG).returncode == 0


def test_a_kill_in_mid_work_loses_nothing(relay: Process, journal: Reader, producer: Producer, codec: Codec) -> None:
    count = 20_000
    relay.kill()
    for i in range(count):
        producer.produce("intake.acme", codec.encode("Intake", {"messages": HELLO, "id": f"kill-{i}"}))
        producer.poll(0)
    assert producer.flush(30) == 0
    relay.start()
    journal.take("Request", 1, timeout_s=60)
    relay.kill()
    relay.start()
    journal.take("Request", count, timeout_s=60)
    ids = {r["request_id"] for r in journal.of("Request")}
    while len(ids) < count:  # some came twice, so the last ones are still to come
        ids.add(journal.take("Request", len(journal.of("Request")) + 1)[-1]["request_id"])
    assert len(ids) == count


def test_a_registry_that_is_away_costs_nothing(
    relay: Process, journal: Reader, letters: Reader, producer: Producer, codec: Codec, parts: Parts
) -> None:
    good = codec.encode("Intake", {"messages": HELLO, "id": "known-schema"})
    stranger = b"\x00\x7f\xff\xff\xf1" + good[5:]
    parts.stop("registry", kill=True)
    producer.produce("intake.acme", good, partition=1)
    assert producer.flush(10) == 0
    assert journal.take("Request", 1)[0]["request_id"] == "known-schema"  # what is known needs no registry
    producer.produce("intake.acme", stranger, partition=1)
    producer.produce("intake.acme", codec.encode("Intake", {"messages": HELLO, "id": "behind-it"}), partition=1)
    assert producer.flush(10) == 0
    await_(lambda: relay.said("the schema registry cannot be asked"), "the relay waits", 60)
    ticks = len(journal.of("Tick"))
    journal.take("Tick", ticks + 8)  # time passes meanwhile
    assert letters.of("DeadLetter") == []
    assert [r["request_id"] for r in journal.of("Request")] == ["known-schema"]
    parts.start("registry")
    assert letters.take("DeadLetter", 1, 60)[0]["value"] == stranger
    assert journal.take("Request", 2)[1]["request_id"] == "behind-it"
