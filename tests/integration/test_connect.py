"""Kafka Connect with our connectors, on a real broker, registry and MQTT broker; no Flink, so no answers but ours."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from parts import Parts, await_, free_ports
from processes import apply

from infra.local import status
from infra.local.settings import CHECKOUT
from ingest import connectors
from ingest.connectors import Connect
from schemas import kafka as clients
from schemas.wire import Codec
from tests.mqtt.broker import Broker
from tests.mqtt.client import Device
from tests.mqtt.shop import Shop

YAML = """
tenants: {acme: {}, globex: {}}
pools: {echo: {engine: echo}}
models: {echo: {route: [echo]}}
"""
TOKEN = "secret-token"


def messages(bootstrap: str, topic: str) -> list[Message]:
    """Every message of a topic up to now."""
    consumer = Consumer({**clients.consumer(bootstrap, "look", "look"), "enable.partition.eof": True})
    found = []
    try:
        known = consumer.list_topics(timeout=10).topics
        for partition in known[topic].partitions if topic in known else ():
            consumer.assign([TopicPartition(topic, partition, 0)])
            while (message := consumer.poll(10)) is not None and message.error() is None:
                found.append(message)
    finally:
        consumer.close()
    return found


class World:
    """The parts, a folder of configuration, and an MQTT broker."""

    def __init__(self, parts: Parts, codec: Codec, folder: Path, broker: Broker) -> None:
        self.parts, self.codec, self.folder, self.broker = parts, codec, folder, broker
        self.connect = Connect(parts.environment("x")["MILLRACE_CONNECT"])
        (folder / "connectors").mkdir(parents=True)
        (folder / "all.yaml").write_text(YAML)

    def write(self, name: str, kind: str, settings: dict[str, Any]) -> None:
        """Put a connector's file there."""
        document = {"connector.class": f"millrace.connect.{kind}Connector", "tenant": "acme", **settings}
        (self.folder / "connectors" / f"{name}.json").write_text(json.dumps(document))

    def apply(self) -> subprocess.CompletedProcess[str]:
        return apply(self.parts, self.folder)

    def applied(self) -> None:
        done = self.apply()
        assert done.returncode == 0, done.stderr

    def requests(self, tenant: str = "acme") -> dict[str, dict[str, Any]]:
        """Requests on a tenant's intake topic, by id."""
        found = {}
        for message in messages(self.parts.bootstrap, f"intake.{tenant}"):
            assert dict(message.headers() or ()) == {"content-type": b"application/json"}
            request = json.loads(message.value() or b"")
            found[request.get("id", "")] = request
        return found

    def letters(self) -> list[dict[str, Any]]:
        found = messages(self.parts.bootstrap, "dead_letters")
        return [self.codec.decode(message.value() or b"")[1] for message in found]

    def letter(self, value: bytes) -> dict[str, Any]:
        """The dead letter with these bytes, once it is there."""
        await_(lambda: any(x["value"] == value for x in self.letters()), f"a dead letter with {value[:40]!r}", 30)
        return next(x for x in self.letters() if x["value"] == value)

    def answer(self, **more: Any) -> None:
        """An answer as admission writes it."""
        record = {
            "request_id": f"r-{uuid.uuid4().hex}", "tenant": "acme", "model": "echo", "status": "completed",
            "http_status": 200, "body": json.dumps({"choices": [{"message": {"content": "hello"}}]}), "batch_id": "",
            "custom_id": "", "correlation_id": "", "completed_at": 1_700_000_000_000, **more,
        }  # fmt: skip
        producer = Producer(clients.producer(self.parts.bootstrap, "answers"))
        producer.produce("responses", self.codec.encode("Response", record))
        assert producer.flush(20) == 0


@pytest.fixture(scope="module")
def world(parts: Parts, kafka: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    del kafka
    broker = Broker(parts.settings, parts.settings.home / "mqtt", free_ports(1)[0])
    broker.start()
    made = World(parts, codec, tmp_path_factory.mktemp("config"), broker)
    try:
        parts.start("connect")
        await_(made.connect.running, "Kafka Connect answers", 60)
        yield made
        parts.stop("connect")  # while there is a broker to say goodbye to
    finally:
        broker.kill()


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    """An API to poll, and a place for callbacks."""
    running = Shop()
    yield running
    running.close()


@pytest.fixture(scope="module")
def fleet(world: World) -> Iterator[Device]:
    """An MQTT source over sensors/#, which maps readings only; and a device."""
    world.write("fleet", "MqttSource", {
        "mqtt.url": world.broker.url, "mqtt.topics": "sensors/#", "mappings": "readings",
        "mappings.readings.match": "sensors/+/reading", "mappings.readings.model": "echo",
        "mappings.readings.prompt": "Sum up: {payload.text}", "mappings.readings.id": "{topic.1}-{payload.n}",
        "mappings.readings.correlation_id": "mqtt/{topic.1}", "mappings.readings.max_tokens": "{payload.max|16}",
    })  # fmt: skip
    world.applied()
    device = Device("d1", world.broker.port)
    yield device
    device.close()


def test_a_message_becomes_a_request_of_the_tenant(world: World, fleet: Device) -> None:
    assert status.connectors(world.parts.settings) == ["connector fleet: running, 1 of 1 tasks run"]
    fleet.publish("sensors/d1/reading", json.dumps({"text": "21 degrees", "n": 7}))
    fleet.wait()
    await_(lambda: "d1-7" in world.requests(), "the request", 30)
    assert world.requests()["d1-7"] == {
        "id": "d1-7", "model": "echo", "correlation_id": "mqtt/d1", "max_tokens": 16,
        "messages": [{"role": "user", "content": "Sum up: 21 degrees"}],
    }  # fmt: skip
    assert world.requests("globex") == {}


def test_what_cannot_be_mapped_is_set_aside_and_stops_nothing(world: World, fleet: Device) -> None:
    large = json.dumps({"text": "x" * 4_200_000, "n": 8}).encode()
    for topic, payload in (("alarm", b"fire"), ("reading", b"\xff\x00 no json"), ("reading", large)):
        fleet.publish(f"sensors/d1/{topic}", payload)
    fleet.publish("sensors/d1/reading", json.dumps({"text": "after", "n": 9}))
    fleet.wait()
    await_(lambda: "d1-9" in world.requests(), "the request behind them", 30)
    unmapped = world.letter(b"fire")
    assert unmapped["reason"] == "no mapping is for the topic `sensors/d1/alarm`"
    assert (unmapped["tenant"], unmapped["source_topic"]) == ("acme", "mqtt:fleet/sensors/d1/alarm")
    assert "not JSON" in world.letter(b"\xff\x00 no json")["reason"]
    assert "more than the 4194304 of a request" in world.letter(large)["reason"]


def test_a_broker_that_dies_is_waited_for(world: World, fleet: Device) -> None:
    world.broker.kill()
    fleet.publish("sensors/d1/reading", json.dumps({"text": "sent while it was away", "n": 10}))
    world.broker.start()
    fleet.wait()
    await_(lambda: "d1-10" in world.requests(), "the request", 60)


def test_a_posted_body_is_answered_once_kafka_has_it(world: World) -> None:
    port = free_ports(1)[0]
    world.write("orders", "WebhookSource", {
        "tenant": "globex", "http.port": port, "http.token": TOKEN, "mappings": "orders",
        "mappings.orders.match": "orders/#", "mappings.orders.prompt": "Answer {payload.name}: {payload.question}",
        "mappings.orders.id": "{header.idempotency-key}",
    })  # fmt: skip
    world.applied()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"authorization": f"Bearer {TOKEN}"}) as client:
        order = {"name": "Ada", "question": "Where is it?"}
        done = client.post("/orders/new", json=order, headers={"idempotency-key": "o-1"})
        assert (done.status_code, done.json()) == (202, {"accepted": True})
        # No waiting: the answer says that it is there.
        assert world.requests("globex")["o-1"]["messages"][0]["content"] == "Answer Ada: Where is it?"
        refused = client.post("/orders/new", content=b"{broken", headers={"idempotency-key": "o-2"})
        assert refused.status_code == 422 and "not JSON" in refused.json()["error"]["message"]
        letter = world.letter(b"{broken")
        assert (letter["tenant"], letter["source_topic"]) == ("globex", "webhook:orders/orders/new")
        assert client.post("/elsewhere", json=order).status_code == 422
        assert client.post("/orders/new", content=b"x" * 4_194_305).status_code == 413
        assert client.get("/orders/new").status_code == 405
        assert client.post("/orders/new", json=order, headers={"authorization": "Bearer wrong"}).status_code == 401


def test_an_api_is_read_from_its_cursor_on(world: World, shop: Shop) -> None:
    shop.add({"id": 1, "question": "one"}, {"id": 2, "question": "two"}, {"id": 3, "nothing": "to ask"})
    world.write("tickets", "PollSource", {
        "http.url": shop.url + "/tickets?after={cursor}", "poll.interval.ms": 100, "poll.items": "data.tickets",
        "cursor.start": "0", "cursor.item": "id", "mappings": "tickets",
        "mappings.tickets.prompt": "{payload.question}", "mappings.tickets.id": "ticket-{payload.id}",
    })  # fmt: skip
    world.applied()
    await_(lambda: {"ticket-1", "ticket-2"} <= world.requests().keys(), "two requests", 30)
    letter = world.letter(b'{"id":3,"nothing":"to ask"}')
    assert (letter["source_topic"], letter["key"]) == ("poll:tickets", b"3") and "payload.question" in letter["reason"]
    shop.failures["GET"] = 2
    shop.add({"id": 4, "question": "four"})
    await_(lambda: "ticket-4" in world.requests(), "the next one, after two failures", 30)
    # Read again only from where it was: a worker that is killed goes on from the stored cursor.
    await_(lambda: shop.cursors[-1] == "4", "the last cursor", 30)
    world.parts.stop("connect", kill=True)
    del shop.cursors[:]
    world.parts.start("connect")
    await_(lambda: bool(shop.cursors), "a new worker asks", 90)
    assert shop.cursors[0] in ("3", "4")
    shop.add({"id": 5, "question": "five"})
    await_(lambda: "ticket-5" in world.requests(), "one more", 30)


def test_answers_reach_mqtt_and_the_rest_is_set_aside(world: World) -> None:
    sink = {
        "mqtt.url": world.broker.url,
        "mqtt.topic": "devices/{correlation_id}/answer",
        "correlation.prefix": "mqtt/",
    }
    world.write("answers", "MqttSink", sink)
    world.applied()
    listener = Device("listener", world.broker.port, listens="devices/+/answer")
    world.answer(correlation_id="mqtt/d1", tenant="globex")
    world.answer(correlation_id="http/d1")
    world.answer(correlation_id="mqtt/#")
    world.answer(correlation_id="mqtt/d2", status="blocked")
    world.answer(correlation_id="mqtt/d1", request_id="r-1")
    await_(lambda: len(listener.heard) == 2, "two answers", 30)
    heard = dict(listener.heard)
    assert heard.keys() == {"devices/d2/answer", "devices/d1/answer"}
    answer = json.loads(heard["devices/d1/answer"])
    assert answer.pop("body")["choices"][0]["message"]["content"] == "hello"
    assert answer == {
        "id": "r-1", "correlation_id": "d1", "status": "completed", "http_status": 200, "model": "echo",
        "completed_at": 1_700_000_000_000, "text": "hello",
    }  # fmt: skip
    await_(lambda: bool(messages(world.parts.bootstrap, "undelivered.acme")), "the one that is set aside")
    (undelivered,) = messages(world.parts.bootstrap, "undelivered.acme")
    assert world.codec.decode(undelivered.value() or b"")[1]["correlation_id"] == "mqtt/#"
    assert b"mqtt.topic" in dict(undelivered.headers() or ())["__connect.errors.exception.message"]
    world.broker.kill()
    world.answer(correlation_id="mqtt/d3")
    world.broker.start()
    await_(lambda: "devices/d3/answer" in dict(listener.heard), "the answer that waited for the broker", 60)
    listener.close()


def test_answers_are_posted_until_they_are_taken(world: World, shop: Shop) -> None:
    world.write("callback", "HttpSink", {
        "http.url": shop.url + "/answers/{correlation_id}", "http.authorization": "Bearer shop", "http.attempts": 4,
        "correlation.prefix": "shop/",
    })  # fmt: skip
    world.applied()
    shop.failures["POST"] = 2
    world.answer(correlation_id="shop/../a b", request_id="r-2")
    await_(lambda: bool(shop.posted), "the callback", 30)
    ((path, headers, body),) = shop.posted
    assert path == "/answers/..%2Fa+b" and json.loads(body)["text"] == "hello"
    assert (headers["authorization"], headers["idempotency-key"]) == ("Bearer shop", "r-2")
    before = len(messages(world.parts.bootstrap, "undelivered.acme"))
    world.answer(correlation_id="shop/gone", request_id="r-3")  # answered with 410
    shop.failures["POST"] = 1000
    world.answer(correlation_id="shop/never", request_id="r-4")
    await_(lambda: len(messages(world.parts.bootstrap, "undelivered.acme")) == before + 2, "both set aside", 60)
    shop.failures["POST"] = 0
    world.answer(correlation_id="shop/next", request_id="r-5")
    await_(lambda: shop.posted[-1][0] == "/answers/next", "the next one", 30)


def test_the_examples_have_no_fault(world: World) -> None:
    for config in connectors.read(CHECKOUT / "examples", ("acme", "globex")).values():
        assert world.connect.faults(config) == []


def test_faults_of_connectors_are_named_and_nothing_is_applied(world: World) -> None:
    before = messages(world.parts.bootstrap, "config")
    world.write("wrong", "MqttSource", {
        "mqtt.url": "nowhere", "mqtt.topics": "a", "mappings": "m", "mappings.m.promt": "x", "mappings.m.prompt": "{x}",
    })  # fmt: skip
    done = world.apply()
    lines = done.stderr.splitlines()
    path = world.folder / "connectors" / "wrong.json"
    assert done.returncode == 1 and len(lines) == 3, done.stderr
    found = sorted(line.removeprefix(f"{path}: ").partition(": ")[0] for line in lines)
    assert found == ["mappings.m.prompt", "mappings.m.promt", "mqtt.url"]
    world.write("wrong", "MqttSource", {"tenant": "nobody"})
    assert world.apply().stderr == f"{path}: tenant: there is no tenant 'nobody' in this configuration\n"
    path.write_text("{")
    assert world.apply().stderr.startswith(f"{path}:1: not JSON")
    path.unlink()
    assert len(messages(world.parts.bootstrap, "config")) == len(before)


def test_a_connector_whose_file_is_gone_is_removed(world: World) -> None:
    for path in (world.folder / "connectors").iterdir():
        path.unlink()
    world.applied()
    await_(lambda: status.connectors(world.parts.settings) == [], "they are gone", 30)


def test_without_connect_one_line_says_what_to_do(world: World) -> None:
    world.parts.stop("connect", kill=True)
    world.write("fleet", "MqttSource", {"mqtt.url": world.broker.url, "mqtt.topics": "a"})
    done = world.apply()
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "Kafka Connect does not run: `make up CONNECT=1`" in done.stderr
    world.parts.start("connect")
