"""Producers with users of their own: in and out by Kafka, apart from each other, in order, and not when stale."""

import itertools
import json
import time
import uuid
from collections.abc import Iterable
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, Producer

from ingest.arrival import REPLAY_OF
from tests.e2e.evidence import records
from tests.e2e.producing import intake
from tests.e2e.stack import Stack, eventually

PASSWORDS = {"maker": "correct-horse", "rival": "battery-staple"}
JSON = [("content-type", b"application/json")]


def user(stack: Stack, tenant: str) -> dict[str, Any]:
    """How a tenant's user enters."""
    return {
        "bootstrap.servers": f"127.0.0.1:{stack.ports['KAFKA'] + 52}",
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": f"{tenant}.sensors",
        "sasl.password": PASSWORDS[tenant],
        "log_level": 0,
    }


def send(stack: Stack, tenant: str, values: Iterable[bytes], key: bytes | None = None, **more: Any) -> list[Message]:
    """Write as the tenant's user; what was acknowledged."""
    producer = Producer({**user(stack, tenant), "enable.idempotence": True, "acks": "all"})
    places: list[Message] = []
    for value in values:
        producer.produce(f"intake.{tenant}", value, key, on_delivery=lambda _, m: places.append(m), **more)
    assert producer.flush(60) == 0
    assert all(m.error() is None for m in places), places[0].error()
    return places


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


class Answers:
    """What the tenant's user reads on its answers' topic, from its beginning."""

    def __init__(self, stack: Stack, tenant: str) -> None:
        self._codec = stack.codec()
        group = {"group.id": f"{tenant}.{uuid.uuid4().hex}", "auto.offset.reset": "earliest"}
        self._consumer = Consumer({**user(stack, tenant), **group, "enable.auto.commit": False})
        self._consumer.subscribe([f"responses.{tenant}"])
        self.seen: list[tuple[int, dict[str, Any]]] = []

    def of(self, ids: set[str], timeout_s: float = 60) -> list[dict[str, Any]]:
        """The answers to these, in the order read, when all are there."""
        end = time.monotonic() + timeout_s
        while missing := ids - {r["request_id"] for _, r in self.seen}:
            assert time.monotonic() < end, f"no answer to {missing}"
            message = self._consumer.poll(0.5)
            if message is not None:
                assert message.error() is None, message.error()
                name, record = self._codec.decode(message.value())
                assert name == "Response"
                self.seen.append((message.partition(), record))
        return [r for _, r in self.seen if r["request_id"] in ids]


def test_a_producer_is_answered_where_it_lives_with_its_correlation_id(stack: Stack):
    name = uuid.uuid4().hex
    ids = {f"{name}-{i}": f"sensor-{i}" for i in range(20)}
    values = [intake(stack, "maker", id=i, messages=said(f"reading {i}"), correlation_id=c) for i, c in ids.items()]
    send(stack, "maker", values * 2)
    found = Answers(stack, "maker").of(set(ids))
    assert {r["request_id"]: r["correlation_id"] for r in found} == ids
    assert all(r["status"] == "completed" and f"reading {r['request_id']}" in r["body"] for r in found)
    rows = eventually(
        lambda: (x := [u for u in records(stack, "usage", {"maker"}) if u["request_id"] in ids]) and len(x) >= 20 and x,
        30,
        "the usage rows",
    )
    assert sorted(u["request_id"] for u in rows) == sorted(ids), "one row each, though each was sent twice"


def test_a_user_of_one_tenant_can_neither_write_nor_read_nor_spend_as_another(stack: Stack):
    name = uuid.uuid4().hex
    forged = {"tenant": "rival", "id": name, "model": "echo", "messages": said("whose is this")}
    send(stack, "maker", [json.dumps(forged).encode()], headers=JSON)
    claims = [("tenant", b"rival"), ("x-millrace-tenant", b"rival"), *JSON]
    honest = {k: v for k, v in forged.items() if k != "tenant"}
    send(stack, "maker", [json.dumps(honest).encode()], key=b"rival", headers=claims)
    (answer,) = Answers(stack, "maker").of({name})
    assert (answer["tenant"], answer["status"]) == ("maker", "completed")
    denied: list[KafkaError] = []
    producer = Producer({**user(stack, "maker"), "message.timeout.ms": 15_000})
    for topic in ("intake.rival", "responses.rival", "journal"):
        producer.produce(topic, b"x", on_delivery=lambda error, _: denied.append(error))
    assert producer.flush(30) == 0
    assert {error.code() for error in denied} == {KafkaError.TOPIC_AUTHORIZATION_FAILED} and len(denied) == 3
    consumer = Consumer({**user(stack, "maker"), "group.id": "maker.thief"})
    consumer.subscribe(["responses.rival"])
    message = eventually(lambda: consumer.poll(1), 30, "a word on the other's topic")
    assert message.error().code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    consumer.close()
    assert not [u for u in records(stack, "usage", {"rival"}) if u["request_id"] == name]
    letters = [d for d in records(stack, "dead_letters") if name.encode() in d["value"]]
    assert [d["tenant"] for d in letters] == ["maker"] and "tenant" in letters[0]["reason"]


def test_what_is_stale_ends_as_expired_with_its_row_and_its_answer(stack: Stack):
    old, fresh = (uuid.uuid4().hex for _ in range(2))
    now = time.time_ns() // 1_000_000
    values = [
        intake(stack, "maker", id=old, messages=said("old"), created_at=now - 60_000, max_age_ms=30_000),
        intake(stack, "maker", id=fresh, messages=said("fresh"), created_at=now, max_age_ms=60_000),
    ]
    send(stack, "maker", values)
    found = {r["request_id"]: r for r in Answers(stack, "maker").of({old, fresh})}
    assert (found[old]["status"], found[fresh]["status"]) == ("expired", "completed")
    (row,) = eventually(
        lambda: [u for u in records(stack, "usage", {"maker"}) if u["request_id"] == old], 30, "the usage row"
    )
    assert (row["status"], row["input_tokens"], row["cost_micros"]) == ("expired", 0, 0)


def test_the_requests_of_a_device_run_one_after_the_other_in_the_order_sent(stack: Stack):
    name = uuid.uuid4().hex
    devices = {d: [f"{name}-{d}-{i}" for i in range(4)] for d in ("a", "b")}
    for n in range(4):
        for d, ids in devices.items():
            # The first takes longest: without an order the last would be answered first.
            text = " ".join(["word"] * (12 - 3 * n))
            value = intake(stack, "maker", id=ids[n], messages=said(text), model="slow", order_key=f"{name}-{d}")
            send(stack, "maker", [value], key=d.encode())
    reader = Answers(stack, "maker")
    found = [r["request_id"] for r in reader.of({i for ids in devices.values() for i in ids})]
    for ids in devices.values():
        assert [i for i in found if i in ids] == ids
        assert len({p for p, r in reader.seen if r["request_id"] in ids}) == 1, "in one partition"
    rows = eventually(
        lambda: (
            (x := {u["request_id"]: u for u in records(stack, "usage", {"maker"}) if u["request_id"].startswith(name)})
            and len(x) == 8
            and x
        ),
        30,
        "the rows",
    )
    for ids in devices.values():
        for before, after in itertools.pairwise(ids):
            began = rows[after]["received_at"] + rows[after]["queue_ms"]
            assert began >= rows[before]["completed_at"] - 100, "it began when the one before had ended"


@pytest.mark.parametrize("kind", ["avro", "json"])
def test_a_letter_is_replayed_by_the_operator_and_answered_once(stack: Stack, kind: str):
    name = f"{kind}-{uuid.uuid4().hex}"
    # Bad as long as the content-type is wrong; a fix of the record itself is a new record, so this one fails twice.
    send(stack, "maker", [name.encode()], headers=JSON if kind == "json" else None)

    def mine() -> list[dict[str, Any]]:
        return [d for d in records(stack, "dead_letters") if d["value"] == name.encode()]

    (letter,) = eventually(mine, 30, "the letter")
    done = stack.command("exec", "--", "python", "-m", "ingest.dead_letters", "replay", "--all", "--tenant", "maker")
    assert done.returncode == 0, done.stderr
    again = eventually(lambda: (x := mine()) and len(x) == 2 and x[1], 30, "its second letter")
    assert again["headers"][REPLAY_OF] == f"{letter['partition']}:{letter['offset']}".encode()
    assert again["partition"] == letter["partition"] and again["offset"] > letter["offset"]
