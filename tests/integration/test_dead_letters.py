"""Bad records, schemas that change, and replays, through a relay as a process on a real broker and registry."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from parts import Parts
from processes import Process, apply
from topic_reader import Reader

from ingest.arrival import Arrival, identity
from schemas import catalogue, registry, topics
from schemas import kafka as settings
from schemas.wire import Codec
from tests.golden.write import HERE as GOLDEN

TWO = "tenants: {acme: {answers: topic}, globex: {}}"
THREE = "tenants: {acme: {answers: topic}, globex: {}, newcomer: {}}"
HELLO = [{"role": "user", "content": "hello"}]
JSON = [("content-type", b"application/json")]
FRAMED = [("content-type", b"application/schema+json")]
CORRUPTIONS = 1_000
SEED = 20261130


@pytest.fixture(scope="module")
def url(parts: Parts) -> str:
    return parts.environment("test")["MILLRACE_REGISTRY"]


@pytest.fixture(scope="module")
def client(url: str, codec: Codec) -> SchemaRegistryClient:
    return SchemaRegistryClient({"url": url, "timeout": 10})


@pytest.fixture(scope="module")
def folder(parts: Parts, kafka: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("config")
    configure(parts, found, THREE)
    return found


@pytest.fixture(scope="module")
def relay(parts: Parts, folder: Path) -> Iterator[Process]:
    process = Process(parts, "relay", "ingest.relay")
    yield process
    assert process.stop() == 0


@pytest.fixture
def journal(relay: Process, kafka: str, codec: Codec) -> Reader:
    return Reader(kafka, codec, topics.JOURNAL)


@pytest.fixture
def letters(relay: Process, kafka: str, codec: Codec) -> Reader:
    return Reader(kafka, codec, topics.DEAD_LETTERS)


def configure(parts: Parts, folder: Path, text: str) -> None:
    (folder / "all.yaml").write_text(text)
    done = apply(parts, folder)
    assert done.returncode == 0, done.stderr


def command(parts: Parts, *words: str) -> subprocess.CompletedProcess[bytes]:
    line = [sys.executable, "-m", "ingest.dead_letters", *words]
    return subprocess.run(line, env=parts.environment("letters"), capture_output=True, timeout=60, check=False)


def listed(parts: Parts, *words: str) -> list[dict[str, Any]]:
    done = command(parts, "list", "--json", *words)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def send(kafka: str, topic: str, *records: tuple[bytes, list[tuple[str, bytes]]], partition: int = 0) -> list[Message]:
    places: list[Message] = []
    producer = Producer(settings.producer(kafka, "device"))
    for value, headers in records:
        producer.produce(topic, value, headers=headers, partition=partition, on_delivery=lambda _, m: places.append(m))
    assert producer.flush(30) == 0
    return places


def avro(schema: Any, schema_id: int, record: dict[str, Any]) -> bytes:
    """As any client of the registry writes it."""
    import io

    out = io.BytesIO(b"\0" + schema_id.to_bytes(4, "big"))
    out.seek(5)
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(json.dumps(schema))), record)
    return out.getvalue()


def changed(**fields: Any) -> dict[str, Any]:
    """Today's schema of intake with one more field."""
    schema = json.loads(json.dumps(catalogue.raw("Intake")))
    schema["fields"].append({"doc": "New.", **fields})
    return schema


def test_producers_of_two_versions_write_at_once_and_an_incompatible_third_is_refused(
    kafka: str, journal: Reader, letters: Reader, client: SchemaRegistryClient, url: str
) -> None:
    first = registry.publish_intake(url, "acme")
    newer = changed(name="humidity", type="double", default=0.0)
    second = client.register_schema("intake.acme-value", Schema(json.dumps(newer), "AVRO"))
    old = json.loads((GOLDEN / "v1" / "avro-Intake.json").read_text())["schema"]
    oldest = client.register_schema("intake.acme-value", Schema(json.dumps(old), "AVRO"))
    assert len({first, second, oldest}) == 3
    retyped = json.loads(json.dumps(catalogue.raw("Intake")).replace('"null", "int"', '"null", "string"'))
    assert retyped != catalogue.raw("Intake")
    for bad in (changed(name="humidity", type="string", default=""), changed(name="site", type="string"), retyped):
        with pytest.raises(SchemaRegistryError) as caught:
            client.register_schema("intake.acme-value", Schema(json.dumps(bad), "AVRO"))
        assert caught.value.http_status_code == 409
    plain = json.loads(json.dumps(catalogue.raw("Intake")))
    body = {"messages": HELLO, "model": "echo"}
    records = []
    for i in range(30):
        schema, number = ((plain, first), (newer, second), (old, oldest))[i % 3]
        more = {"humidity": 0.5} if number == second else {}
        records.append((avro(schema, number, {"id": f"both-{i}", **body, **more}), []))
    send(kafka, "intake.acme", *records)
    found = journal.take("Request", 30)
    assert [r["request_id"] for r in found] == [f"both-{i}" for i in range(30)]
    assert {r["reply_to"] for r in found} == {"responses.acme"}
    assert not letters.of("DeadLetter")


def test_json_under_a_schema_of_the_registry_is_told_by_its_content_type(
    kafka: str, journal: Reader, letters: Reader, client: SchemaRegistryClient, codec: Codec, url: str
) -> None:
    registry.publish_intake(url, "acme")
    schema = {**catalogue.json_schema("intake")}
    schema["properties"] = {**schema["properties"], "humidity": {"type": "number"}}
    number = client.register_schema("weather-json", Schema(json.dumps(schema), "JSON"))
    head = b"\0" + number.to_bytes(4, "big")
    good = head + json.dumps({"id": "framed", "messages": HELLO, "humidity": 0.5}).encode()
    of_avro = codec.encode("Intake", {"messages": HELLO})[:5] + b"{}"
    bad = [head + b'{"colour": 1}', of_avro, b"\0\x7f\xff\xff\xff{}", b"{}"]
    send(kafka, "intake.acme", *((value, FRAMED) for value in (*bad, good)), (good, []))
    found = letters.take("DeadLetter", 5)
    reasons = [letter["reason"] for letter in found]
    assert "colour" in reasons[0] and "JSON Schema" in reasons[1] and "unknown" in reasons[2] and "wire" in reasons[3]
    assert f"schema id {number}" in reasons[4], "JSON without its content-type is taken for Avro"
    assert [letter["value"] for letter in found] == [*bad, good]
    assert journal.take("Request", 1)[0]["request_id"] == "framed"


def corrupted(chance: random.Random, value: bytes) -> bytes:
    """The bytes with something gone, more, or other than it was."""
    data, kind, at = bytearray(value), chance.randrange(4), chance.randrange(len(value))
    if kind == 0:
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] ^= chance.randrange(1, 256)
    elif kind == 1:
        del data[at:]
    elif kind == 2:
        del data[at : at + chance.randrange(1, 9)]
    else:
        data[at:at] = chance.randbytes(chance.randrange(1, 9))
    return bytes(data)


def test_a_thousand_corruptions_are_each_set_aside_or_still_a_request_and_stop_nothing(
    kafka: str, journal: Reader, letters: Reader, relay: Process, codec: Codec, client: SchemaRegistryClient, url: str
) -> None:
    number = registry.publish_intake(url, "globex")
    schema = client.register_schema("intake.globex-json", Schema(json.dumps(catalogue.json_schema("intake")), "JSON"))
    text = json.dumps({"messages": HELLO, "model": "echo", "max_tokens": 3}).encode()
    body = {"messages": HELLO, "model": "echo", "max_tokens": 3, "correlation_id": "c"}
    record = avro(catalogue.raw("Intake"), number, body)
    kinds = ((record, []), (text, JSON), (b"\0" + schema.to_bytes(4, "big") + text, FRAMED))
    chance, made, before = random.Random(SEED), [], relay.popen.pid
    for i in range(CORRUPTIONS):
        value, headers = kinds[(0, 0, 1, 2)[i % 4]]
        bad = corrupted(chance, value)
        made.append((value if bad == value else bad, headers))
    good = avro(catalogue.raw("Intake"), number, {"id": "behind-them-all", **body})
    places = send(kafka, "intake.globex", *made, (good, []))
    sent = {m.offset(): m.value() or b"" for m in places}
    end = max(sent)
    requests = journal.take("Request", 1, 60)
    while requests[-1]["request_id"] != "behind-them-all":
        requests = journal.take("Request", len(requests) + 1, 60)
    still_valid = len(requests) - 1
    found = letters.take("DeadLetter", CORRUPTIONS - still_valid, 60)
    offsets = {letter["offset"] for letter in found}
    assert len(found) == len(offsets) == CORRUPTIONS - still_valid, "each once, as one or the other"
    assert all(letter["reason"] and letter["value"] == sent[letter["offset"]] for letter in found)
    assert all(letter["tenant"] == letter["source_topic"].removeprefix("intake.") == "globex" for letter in found)
    ids = {r["request_id"] for r in requests}
    places_left = {identity(Arrival("intake.globex", 0, o, None, None)) for o in set(sent) - offsets - {end}}
    # Those whose bytes still read as a record are requests, under their place unless the fault hit `id` itself.
    assert len(places_left) == still_valid and len(places_left & ids) >= 0.8 * still_valid
    assert 0.5 * CORRUPTIONS < len(found) < CORRUPTIONS, f"{still_valid} of {CORRUPTIONS} still read as a record"
    assert relay.popen.poll() is None and relay.popen.pid == before
    print(f"of {CORRUPTIONS} corruptions {len(found)} were set aside, {still_valid} were still valid records")


def test_after_a_fix_each_is_replayed_once_under_its_first_identity(
    parts: Parts, kafka: str, folder: Path, journal: Reader, letters: Reader, codec: Codec
) -> None:
    configure(parts, folder, TWO)
    text = json.dumps({"messages": HELLO}).encode()
    records = [(text, JSON), (codec.encode("Intake", {"messages": HELLO}), []), (b"{never", JSON)]
    places = send(kafka, "intake.newcomer", *records, partition=1)
    assert {letter["reason"] for letter in letters.take("DeadLetter", 3)} == {"there is no tenant 'newcomer'"}
    mine = ("--tenant", "newcomer")
    shown = listed(parts, *mine)
    assert [letter["offset"] for letter in shown] == [m.offset() for m in places]
    raw = command(parts, "show", str(shown[0]["number"]), "--raw")
    assert raw.stdout == text and command(parts, "show", "999999").returncode == 1
    configure(parts, folder, THREE)
    done = command(parts, "replay", "--all", *mine)
    assert (done.returncode, done.stdout) == (0, b"3 replayed\n"), done.stderr
    found = journal.take("Request", 2)
    expected = [identity(Arrival("intake.newcomer", 1, m.offset() or 0, None, None)) for m in places[:2]]
    assert [(r["tenant"], r["request_id"]) for r in found] == [("newcomer", i) for i in expected]
    # What is still bad is set aside once more, as the record it was.
    (again,) = letters.take("DeadLetter", 4)[3:]
    assert again["value"] == b"{never" and "JSON" in again["reason"]
    (left,) = listed(parts, *mine)
    assert left["place"] == f"1:{places[2].offset()}" and left["offset"] != places[2].offset()
    assert len(listed(parts, "--replayed", *mine)) == 4
    named = command(parts, "replay", str(shown[0]["number"]))
    assert named.returncode == 1 and b"was replayed already" in named.stderr
    assert command(parts, "replay").returncode == 2


def test_a_schema_that_is_registered_late_is_a_fix(
    parts: Parts, kafka: str, journal: Reader, letters: Reader, client: SchemaRegistryClient
) -> None:
    newest = client.register_schema("late-0", Schema(json.dumps(changed(name="a0", type="int", default=0)), "AVRO"))
    later = changed(name="late", type="int", default=0)
    send(kafka, "intake.acme", (avro(later, newest + 1, {"messages": HELLO, "id": "late", "late": 7}), []))
    (letter,) = letters.take("DeadLetter", 1)
    assert letter["schema_id"] == newest + 1
    assert client.register_schema("late-1", Schema(json.dumps(later), "AVRO")) == newest + 1
    done = command(parts, "replay", "--all", "--reason", f"unknown schema id {newest + 1}")
    assert done.stdout == b"1 replayed\n", done.stderr
    assert journal.take("Request", 1)[0]["request_id"] == "late"
