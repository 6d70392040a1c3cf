"""MQTT through Kafka Connect: how many messages a second reach the log, and what the way adds to a request's time.

The connectors and their MQTT broker (tests/mqtt) are the benchmark's own, and are taken away at its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import threading
import time
import uuid
from pathlib import Path
from typing import Final

import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition

from infra.local.settings import Settings
from ingest.connectors import Connect, ConnectError
from schemas import kafka
from tests.bench.driver import Stack, percentile, say
from tests.bench.report import Result, Row, Unmeasured
from tests.mqtt.broker import Broker
from tests.mqtt.client import Device

LIMIT_S: Final = 420.0
TENANT: Final = "acme"
DEVICES: Final = 50
BURST: Final = 20_000
ASKED: Final = 200
ASK_EACH_S: Final = 0.05
WAIT_S: Final = 120.0
PORT_ABOVE: Final = 62
NAMES: Final = ("bench-in", "bench-out")


async def measure(stack: Stack) -> Result:
    """Both figures. Raises Unmeasured."""
    return await asyncio.to_thread(_measure, stack)


def _measure(stack: Stack) -> Result:
    settings = Settings.read(os.environ)
    connect = Connect(stack.addresses.connect)
    if not connect.running():
        raise Unmeasured("Kafka Connect does not run: start it by `make up CONNECT=1`")
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(settings, Path(folder), settings.port("CONNECT") + PORT_ABOVE)
        try:
            broker.start()
            for name, config in _connectors(broker).items():
                connect.call("PUT", f"/connectors/{name}/config", {**config, "name": name})
            connect.settled(NAMES)
            added = _answers(broker)
            rate, note = _burst(stack, connect, broker)
        except ConnectError as error:
            raise Unmeasured(str(error)) from None
        finally:
            for name in NAMES:
                httpx.delete(f"{stack.addresses.connect}/connectors/{name}", timeout=30)
            broker.kill()
    rows = [
        Row("MQTT QoS 1 through Kafka Connect", rate, "messages/s", 3000, ">=", note),
        Row("a request by MQTT, answered by MQTT, p50", percentile(added, 0.5), "ms", 60, "<=", "`echo` without delay"),
        Row("the same, p99", percentile(added, 0.99), "ms"),
    ]
    return Result(rows, {"ms": {f"p{p}": round(percentile(added, p / 100), 1) for p in (50, 90, 99)}})


def _connectors(broker: Broker) -> dict[str, dict[str, str]]:
    common = {"tenant": TENANT, "mqtt.url": broker.url, "tasks.max": "1"}
    mapping = {"model": "echo", "prompt": "{payload.t}", "id": "{payload.id}", "correlation_id": "bench/{topic.1}"}
    source = {"mqtt.topics": "bench/+/ask", "mappings": "m", **{f"mappings.m.{k}": v for k, v in mapping.items()}}
    answers = {"topics": f"responses.{TENANT}", "mqtt.topic": "bench/{correlation_id}/answer"}
    sink = {**answers, "correlation.prefix": "bench/"}
    return {
        "bench-in": {"connector.class": "millrace.connect.MqttSourceConnector", **common, **source},
        "bench-out": {"connector.class": "millrace.connect.MqttSinkConnector", **common, **sink,
                      "consumer.override.auto.offset.reset": "latest"},
    }  # fmt: skip


def _answers(broker: Broker) -> list[float]:
    """Milliseconds from a message to its answer, for messages one after the other at a modest rate."""
    say(f"connect: {ASKED} requests by MQTT, one each {ASK_EACH_S * 1000:.0f} ms")
    sent: dict[str, float] = {}
    took: dict[str, float] = {}
    done = threading.Event()

    def hear(topic: str, payload: bytes) -> None:
        now, key = time.monotonic(), json.loads(payload)["id"]
        del topic
        if key in sent and key not in took:
            took[key] = (now - sent[key]) * 1000
            if len(took) == len(keys):
                done.set()

    keys = [uuid.uuid4().hex for _ in range(ASKED)]
    device = Device("bench-asker", broker.port, listens="bench/asker/answer", hear=hear)
    for key in keys:
        sent[key] = time.monotonic()
        device.publish("bench/asker/ask", json.dumps({"id": key, "t": f"hello {key}"}))
        time.sleep(ASK_EACH_S)
    if not done.wait(WAIT_S):
        raise Unmeasured(f"{len(took)} of {len(keys)} requests by MQTT were answered within {WAIT_S:.0f} s")
    device.close()
    # The first ones pay for code that was never run.
    return [took[key] for key in keys[ASKED // 4 :]]


def _burst(stack: Stack, connect: Connect, broker: Broker) -> tuple[float, str]:
    """Messages a second from the broker's queue into intake: the connector is paused while they are published."""
    connect.call("PUT", "/connectors/bench-in/pause")
    time.sleep(2)
    topic = f"intake.{TENANT}"
    consumer = Consumer(kafka.consumer(stack.addresses.kafka, "bench", "bench"))
    try:
        places = [TopicPartition(topic, p) for p in consumer.list_topics(topic, timeout=10).topics[topic].partitions]
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.assign(places)
        run = uuid.uuid4().hex[:8]
        say(f"connect: {BURST} messages wait at the broker, from {DEVICES} devices")
        devices = [Device(f"bench-{i}-{run}", broker.port) for i in range(DEVICES)]
        for i in range(BURST):
            text = json.dumps({"id": f"{run}-{i}", "t": f"reading {i} of {run}"})
            devices[i % DEVICES].publish(f"bench/{i % DEVICES}/ask", text)
        for device in devices:
            device.wait(WAIT_S)
            device.close()
        connect.call("PUT", "/connectors/bench-in/resume")
        times = _times(consumer, run)
    finally:
        consumer.close()
    seconds = (max(times) - min(times)) / 1000
    note = f"{len(times):,} from the first to the last in {seconds:.1f} s, the whole stack at work on them"
    return (len(times) - 1) / seconds, note


def _times(consumer: Consumer, run: str) -> list[int]:
    """The broker's times of the burst's records."""
    times: dict[str, int] = {}
    end = time.monotonic() + WAIT_S
    while len(times) < BURST:
        if time.monotonic() > end:
            raise Unmeasured(f"{len(times)} of {BURST} messages reached Kafka within {WAIT_S:.0f} s")
        for message in consumer.consume(1000, 0.5):
            if message.error() is not None:
                raise KafkaException(message.error())
            key = json.loads(message.value() or b"{}").get("id", "")
            if key.startswith(f"{run}-"):
                times.setdefault(key, message.timestamp()[1])
    return list(times.values())
