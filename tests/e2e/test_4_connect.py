"""Kafka Connect: devices that speak MQTT and shops that speak HTTP, to the answer and the usage row."""

from __future__ import annotations

import json
import os
import shutil
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from infra.local.settings import Settings
from tests.e2e.configuration import tenant
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually
from tests.mqtt.broker import Broker
from tests.mqtt.client import Device
from tests.mqtt.shop import Shop

DEVICES = 50
# The figure is 10,000; the suite takes fewer, as it shares its machine.
MESSAGES = int(os.environ.get("MILLRACE_CONNECT_MESSAGES", "1500"))
# Readings that a fleet is ahead of its answers.
AHEAD = 300
RUN = uuid.uuid4().hex[:8]


def connector(kind: str, settings: dict[str, Any], mapping: dict[str, str] | None = None) -> dict[str, Any]:
    """A connector of ours, with a mapping to the model `echo` if one is given."""
    mapped = {f"mappings.m.{field}": text for field, text in {"model": "echo", **mapping}.items()} if mapping else {}
    return {
        "connector.class": f"millrace.connect.{kind}Connector",
        **settings,
        **({"mappings": "m"} if mapping else {}),
        **mapped,
    }


class Site:
    """A stack with Kafka Connect, an MQTT broker and a shop."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        settings = Settings.read(stack.env)
        self.broker = Broker(settings, stack.home.parent / "mqtt", stack.ports["CONNECT"] + 60)
        self.webhook = stack.ports["CONNECT"] + 61
        self.shop = Shop()
        self.folder = stack.home.parent / "connected"

    def connect(self) -> None:
        """Start what there is, and apply connectors for the tenants `fleet` and `store`."""
        self.broker.start()
        self.stack.run("up", "--only", "connect")
        shutil.copytree(self.stack.home.parent / "config", self.folder)
        document = {"tenants": {"fleet": tenant("fleet", answers="topic"), "store": tenant("store")}}
        (self.folder / "more.yaml").write_text(json.dumps(document))
        (self.folder / "connectors").mkdir()
        for name, config in self._connectors().items():
            (self.folder / "connectors" / f"{name}.json").write_text(json.dumps(config))
        self.stack.apply(self.folder)

    def _connectors(self) -> dict[str, dict[str, Any]]:
        reading = {"prompt": "{payload.text}", "id": "{topic.1}-{payload.n}", "correlation_id": "mqtt/{topic.1}"}
        order = {"prompt": "{payload.text}", "id": "{payload.id}", "correlation_id": "shop/{payload.id}"}
        mqtt = {"tenant": "fleet", "mqtt.url": self.broker.url}
        poll = {"poll.interval.ms": 200, "poll.items": "data.tickets", "cursor.start": "0", "cursor.item": "id"}
        return {
            "fleet-in": connector("MqttSource", {**mqtt, "mqtt.topics": "sensors/+/reading"}, reading),
            "fleet-out": connector(
                "MqttSink",
                {**mqtt, "mqtt.topic": "devices/{correlation_id}/answer", "correlation.prefix": "mqtt/"}
                | {"topics": "responses.fleet"},
            ),
            "store-in": connector("WebhookSource", {"tenant": "store", "http.port": self.webhook}, order),
            "store-poll": connector(
                "PollSource", {"tenant": "store", "http.url": self.shop.url + "/tickets?after={cursor}", **poll}, order
            ),
            "store-out": connector(
                "HttpSink",
                {"tenant": "store", "http.url": self.shop.url + "/answers/{correlation_id}"}
                | {"correlation.prefix": "shop/"},
            ),
        }

    def usage(self, tenant: str) -> dict[str, list[dict[str, Any]]]:
        """Usage rows by the id of their request."""
        found: dict[str, list[dict[str, Any]]] = {}
        for row in records(self.stack, "usage", {tenant}):
            found.setdefault(row["request_id"], []).append(row)
        return found

    def close(self) -> None:
        """Leave the stack with the configuration it had."""
        self.broker.kill()
        self.shop.close()
        self.stack.apply(self.stack.home.parent / "config")


@pytest.fixture(scope="module")
def site(stack: Stack) -> Iterator[Site]:
    made = Site(stack)
    try:
        made.connect()
        yield made
    finally:
        made.close()


def test_a_message_is_answered_where_its_device_listens(site: Site) -> None:
    device = Device("talker", site.broker.port, listens="devices/talker/answer")
    device.publish("sensors/talker/reading", json.dumps({"n": RUN, "text": "twenty one degrees"}))
    eventually(lambda: device.heard, 60, "an answer by MQTT")
    answer = json.loads(device.heard[0][1])
    assert (answer["id"], answer["status"], answer["text"]) == (f"talker-{RUN}", "completed", "twenty one degrees")
    eventually(lambda: f"talker-{RUN}" in site.usage("fleet"), 60, "the usage row")
    (row,) = site.usage("fleet")[f"talker-{RUN}"]
    assert (row["status"], row["lane"], row["input_tokens"]) == ("completed", "standard", 3)
    device.close()


def test_a_posted_body_and_a_polled_item_are_answered_and_paid_by_their_tenant(site: Site) -> None:
    posted = httpx.post(f"http://127.0.0.1:{site.webhook}/orders", json={"id": f"post-{RUN}", "text": "where is it"})
    assert posted.status_code == 202
    site.shop.add({"id": 7, "text": "a polled item"})
    eventually(lambda: {f"/answers/post-{RUN}", "/answers/7"} <= {p for p, _, _ in site.shop.posted}, 60, "callbacks")
    texts = {path: json.loads(body)["text"] for path, _, body in site.shop.posted}
    assert texts == {f"/answers/post-{RUN}": "where is it", "/answers/7": "a polled item"}
    eventually(lambda: {f"post-{RUN}", "7"} <= site.usage("store").keys(), 60, "usage rows")
    for request_id in (f"post-{RUN}", "7"):
        (row,) = site.usage("store")[request_id]
        assert (row["status"], row["input_tokens"]) == ("completed", 3)
        assert request_id not in site.usage("fleet")


class Fleet:
    """Devices that send numbered readings, a limited number ahead of their answers, and hear the answers."""

    def __init__(self, site: Site, count: int) -> None:
        self._devices = [Device(f"d{i}-{RUN}", site.broker.port) for i in range(DEVICES)]
        self._ears = Device(f"ears-{RUN}", site.broker.port, listens="devices/+/answer", hear=self._hear)
        self.wanted = {f"d{i % DEVICES}-{RUN}-{i}" for i in range(count)}
        self.answers: Counter[str] = Counter()
        self._news = threading.Condition()
        self._sender = threading.Thread(target=self._send, args=(count,))

    def start(self) -> None:
        """Begin to send."""
        self._sender.start()

    def _send(self, count: int) -> None:
        for i in range(count):
            with self._news:
                assert self._news.wait_for(lambda n=i: n - len(self.answers) < AHEAD, 300), "no answer for long"  # type: ignore[misc]
            device = i % DEVICES
            reading = json.dumps({"n": i, "text": f"reading {i} of {RUN}"})
            self._devices[device].publish(f"sensors/d{device}-{RUN}/reading", reading)

    def _hear(self, topic: str, payload: bytes) -> None:
        del topic
        answer = json.loads(payload)
        if answer["id"] not in self.wanted:
            return
        assert answer["text"] == f"reading {answer['id'].rpartition('-')[2]} of {RUN}", answer
        with self._news:
            self.answers[answer["id"]] += 1
            self._news.notify()

    def finish(self) -> None:
        """Wait until the broker has acknowledged all, and leave."""
        self._sender.join()
        for device in self._devices:
            device.wait(300)
            device.close()

    def close(self) -> None:
        self._ears.close()


def test_connect_and_then_the_broker_die_under_a_fleet_and_every_message_is_answered_once(site: Site) -> None:
    """An answer may reach a device twice (QoS 1), but no request is run or paid twice: ids tell."""
    fleet = Fleet(site, MESSAGES)
    fleet.start()
    eventually(lambda: len(fleet.answers) >= MESSAGES // 4, 300, "the first quarter")
    site.stack.kill("connect")
    eventually(lambda: len(fleet.answers) >= MESSAGES // 2, 300, "half of them, by a new worker")
    site.broker.kill()
    heard = len(fleet.answers)
    assert heard < MESSAGES
    site.broker.start()
    fleet.finish()
    eventually(lambda: fleet.answers.keys() == fleet.wanted, 300, "all answers")
    eventually(lambda: fleet.wanted <= site.usage("fleet").keys(), 120, "all usage rows")
    rows = site.usage("fleet")
    assert [i for i in fleet.wanted if [row["status"] for row in rows[i]] != ["completed"]] == []
    answered = Counter(r["request_id"] for r in records(site.stack, "responses", {"fleet"}))
    assert fleet.wanted <= answered.keys()
    assert records(site.stack, "dead_letters", {"fleet"}) == []
    print(f"{MESSAGES} messages; answers heard twice: {sum(fleet.answers.values()) - MESSAGES}; broker died at {heard}")
    fleet.close()
