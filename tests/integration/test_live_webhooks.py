"""Webhooks by the live application on a real Kafka and Redis, to receivers that fail in every way."""

from __future__ import annotations

import base64
import os
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import orjson
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from parts import Parts, await_
from processes import Process
from redis import Redis

from schemas import config, config_check, topics, webhooks
from schemas import kafka as kafka_settings
from schemas.wire import Codec
from streams import deliveries
from tests.webhook_receiver import Receiver

OLD, NEW = (f"whsec_{base64.b64encode(os.urandom(32)).decode()}" for _ in range(2))
ENVIRONMENT = {"HOOK_OLD": OLD, "HOOK_NEW": NEW, "HOOK_BAD": "whsec_short"}
Record = dict[str, Any]


class World:
    """A broker, a Redis, the application, and what a batcher and `make apply` would write."""

    def __init__(self, parts: Parts, kafka: str, codec: Codec) -> None:
        self.parts, self.kafka, self.codec = parts, kafka, codec
        self._producer = Producer(kafka_settings.producer(kafka, "test"))
        self.redis = Redis.from_url(parts.environment("test")["MILLRACE_REDIS"], decode_responses=True)
        self.live: Process | None = None

    def start(self) -> Process:
        self.live = Process(self.parts, "live", "streams.live", ENVIRONMENT)
        return self.live

    def send(self, topic: str, key: str, name: str, record: Record) -> None:
        self._producer.produce(topic, self.codec.encode(name, record), key.encode())
        assert self._producer.flush(10) == 0

    def apply(self, hooks: dict[str, list[Record]]) -> None:
        """Publish, and wait until the application lives by it."""
        tenants: Record = {t: {"keys": [{"name": "k", "key": f"key-{t}"}], "webhooks": w} for t, w in hooks.items()}
        tenants["ops"] = {"keys": [{"name": "k", "key": "key-ops", "roles": ["admin"]}]}
        document = config.document(config_check.parse({"tenants": tenants}))
        record = {"version": document.version, "document": config.encode(document)}
        before = self.applied(document.version)
        self.send(topics.CONFIG, "config", "Config", record)
        if self.live is not None:
            await_(lambda: self.applied(document.version) > before, "the configuration", 10)

    def applied(self, version: str) -> int:
        return 0 if self.live is None else self.live.log.read_text().count(f"as of config {version}")

    def event(self, tenant: str, kind: str = "batch.completed", **more: Any) -> str:
        """The id of a new event."""
        batch_id = f"batch_{uuid.uuid4().hex}"
        record = {"tenant": tenant, "event_id": webhooks.event_id(batch_id, kind), "type": kind, "batch_id": batch_id}
        record |= {"created_at": time.time_ns() // 1_000_000, "repeat": False, "endpoint": ""}
        self.send(topics.EVENTS, tenant, "Event", record | more)
        return str(record["event_id"])

    def deliveries(self) -> dict[deliveries.Key, Any]:
        """The newest records of the topic."""
        consumer = Consumer(kafka_settings.consumer(self.kafka, "look", "look"))
        found: dict[deliveries.Key, Any] = {}
        try:
            for partition in range(4):
                place = TopicPartition(topics.DELIVERIES, partition, 0)
                _, high = consumer.get_watermark_offsets(place, 10)
                consumer.assign([place])
                at = 0
                while at < high:
                    for message in consumer.consume(500, 1):
                        record = self.codec.decode(message.value() or b"")[1]
                        found[deliveries.key(record)] = record
                        at = (message.offset() or 0) + 1
        finally:
            consumer.close()
        return found

    def shown(self, tenant: str, event_id: str, endpoint: str = "default") -> Record:
        """A delivery in Redis."""
        text = self.redis.hget(deliveries.event_name(tenant, event_id), endpoint)
        return orjson.loads(text) if text else {}

    def status(self, tenant: str, event_id: str, endpoint: str = "default") -> str:
        return str(self.shown(tenant, event_id, endpoint).get("status", ""))


@pytest.fixture(scope="module")
def world(parts: Parts, kafka: str, codec: Codec) -> Iterator[World]:
    parts.start("redis")
    made = World(parts, kafka, codec)
    made.apply({})
    made.start()
    await_(lambda: bool(made.live and made.live.said("webhooks as of config")), "the application", 90)
    yield made
    if made.live is not None:
        assert made.live.stop() == 0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(NEW)
    yield made
    made.close()


@pytest.fixture(scope="module")
def gateway(world: World, parts: Parts) -> Iterator[httpx.Client]:
    process = Process(parts, "gateway", "ingest.gateway")
    url = f"http://127.0.0.1:{parts.settings.port('HTTP')}"
    with httpx.Client(base_url=f"{url}/v1/webhooks", timeout=10) as client:
        await_(lambda: healthy(f"{url}/healthz"), "a healthy gateway", 60)
        yield client
    assert process.stop() == 0


def healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def key(tenant: str) -> dict[str, str]:
    return {"authorization": f"Bearer key-{tenant}"}


def hook(receiver: Receiver, path: str = "/", **more: Any) -> Record:
    return {"url": receiver.url(path), "secret_env": ["HOOK_NEW", "HOOK_OLD"], "private": True, **more}


def tenant() -> str:
    return f"t-{uuid.uuid4().hex[:8]}"


def test_each_endpoint_gets_what_it_wants_signed_by_both_secrets(world: World, receiver: Receiver) -> None:
    acme, globex = tenant(), tenant()
    world.apply(
        {
            acme: [
                hook(receiver, "/all"),
                hook(receiver, "/bad", name="bad", events=["batch.failed", "batch.expired"]),
            ],
            globex: [hook(receiver, "/other")],
        }
    )
    sent = {kind: world.event(acme, kind) for kind in webhooks.TYPES}
    await_(lambda: len(receiver.ids("/all")) >= 4 and len(receiver.ids("/bad")) >= 2, "six calls")
    assert sorted(receiver.ids("/all")) == sorted(sent.values())
    assert sorted(receiver.ids("/bad")) == sorted([sent["batch.failed"], sent["batch.expired"]])
    assert not receiver.ids("/other")
    for got in receiver.got:
        assert got.event.id == got.event_id and sent[got.event.type] == got.event_id
        assert got.event.object == "event" and got.event.data.id.startswith("batch_")
        assert len(got.headers["webhook-signature"].split()) == 2
        old = Receiver(OLD)
        assert old._client.webhooks.unwrap(got.body, got.headers, secret=OLD).id == got.event_id
        old.close()
    await_(lambda: all(world.status(acme, e) == "delivered" for e in sent.values()), "the log")
    text = "".join(map(str, world.deliveries().values())) + str(world.redis.keys()) + world.live.log.read_text()  # type: ignore[union-attr]
    assert not any(secret.removeprefix("whsec_") in text for secret in (OLD, NEW))


def test_an_event_that_is_written_twice_is_told_once(world: World, receiver: Receiver) -> None:
    acme = tenant()
    world.apply({acme: [hook(receiver)]})
    batch_id = f"batch_{uuid.uuid4().hex}"
    event_id = webhooks.event_id(batch_id, "batch.completed")
    for _ in range(3):
        world.event(acme, batch_id=batch_id, event_id=event_id)
    last = world.event(acme)
    await_(lambda: world.status(acme, last) == "delivered" and world.status(acme, event_id) == "delivered", "both")
    assert sorted(receiver.ids("/")) == sorted([event_id, last])


def test_slow_dead_and_hanging_receivers_hold_up_nobody(world: World, receiver: Receiver) -> None:
    acme = tenant()
    nobody = Receiver(NEW)
    nobody.close()
    paths = ("500", "hang", "redirect", "slow")
    receiver.answers = {"/500": 500, "/hang": "hang", "/redirect": 302, "/slow": "slow"}
    hooks = [hook(receiver, f"/{name}", name=name) for name in (*paths, "good")]
    hooks.append(hook(nobody, name="refused"))
    hooks.append(hook(receiver, "/unsigned", name="unsigned", secret_env="HOOK_MISSING"))
    hooks.append(hook(receiver, "/unsigned", name="badly", secret_env=["HOOK_NEW", "HOOK_BAD"]))
    world.apply({acme: hooks})
    began = time.monotonic()
    sent = [world.event(acme) for _ in range(20)]
    await_(lambda: len(receiver.ids("/good")) >= 20, "the good one's", 8)
    assert time.monotonic() - began < 8
    assert sorted(receiver.ids("/good")) == sorted(sent)
    await_(lambda: all(world.status(acme, e, "slow") == "delivered" for e in sent), "the slow one's", 30)
    assert 1 < receiver.most_open["/slow"] <= 4 and receiver.most_open["/hang"] <= 4
    faults = {"500": "it answered 500", "redirect": "redirects are not followed", "refused": "no connection",
              "unsigned": "HOOK_MISSING is not in", "badly": "HOOK_BAD is not whsec_"}  # fmt: skip
    for name, words in faults.items():
        await_(lambda n=name: world.shown(acme, sent[0], n)["attempts"], f"an attempt for {name}")
        shown = world.shown(acme, sent[0], name)
        assert shown["status"] == "pending" and words in shown["attempts"][0]["error"], shown
        assert shown["due_at"] - shown["attempts"][0]["at"] >= 4_000
    await_(lambda: any(world.shown(acme, e, "hang")["attempts"] for e in sent), "a hanging attempt's end", 15)
    errors = [a["error"] for e in sent for a in world.shown(acme, e, "hang")["attempts"]]
    assert all("no answer within 10 s" in error for error in errors)
    assert not receiver.ids("/elsewhere") and not receiver.ids("/unsigned")


def test_a_kill_while_deliveries_are_pending_loses_none(world: World, receiver: Receiver) -> None:
    acme = tenant()
    receiver.answers = {"/": "hang"}
    world.apply({acme: [hook(receiver)]})
    sent = [world.event(acme) for _ in range(30)]
    await_(lambda: receiver.open["/"] >= 1, "a call under way")
    known = world.deliveries()
    assert world.live is not None
    first = world.live.popen.pid
    assert sum(d["status"] == "pending" for key, d in known.items() if key.tenant == acme) >= 1
    world.live.kill()
    unseen = [world.event(acme) for _ in range(5)]  # while nobody is there
    receiver.closing.set()  # lets go of those that hang
    receiver.answers = {"/": 204}
    world.live.start()
    assert world.live.popen.pid != first
    await_(lambda: set(receiver.ids("/", 204)) >= {*sent, *unseen}, "all events", 60)
    await_(lambda: all(world.status(acme, e) == "delivered" for e in (*sent, *unseen)), "the log")
    assert all(got.event is not None and got.event.id == got.event_id for got in receiver.got)
    assert set(receiver.ids("/")) == {*sent, *unseen}


def test_redis_loses_everything(world: World, receiver: Receiver) -> None:
    acme = tenant()
    receiver.answers = {"/bad": 503}
    world.apply({acme: [hook(receiver, "/good", name="good"), hook(receiver, "/bad", name="bad")]})
    sent = [world.event(acme) for _ in range(5)]
    await_(lambda: all(world.status(acme, e, "good") == "delivered" for e in sent), "the good one's")
    await_(lambda: len(receiver.ids("/bad")) >= 5, "each failed once")
    calls = len(receiver.ids("/good"))
    world.redis.flushall()
    world.event(acme)
    receiver.answers = {}
    await_(lambda: set(receiver.ids("/bad", 204)) >= set(sent), "what was pending", 60)
    await_(lambda: all(world.status(acme, e, "good") == "delivered" for e in sent), "the log, written anew", 60)
    await_(lambda: all(world.status(acme, e, "bad") == "delivered" for e in sent), "the log, written anew", 60)
    await_(lambda: len(receiver.ids("/good")) == calls + 1, "the new event")
    assert len(set(receiver.ids("/good"))) == calls + 1, "what was delivered is not delivered again"


def test_an_endpoint_that_is_gone_is_called_again_after_the_next_apply(world: World, receiver: Receiver) -> None:
    acme = tenant()
    receiver.answers = {"/": 410}
    hooks = {acme: [hook(receiver), hook(receiver, "/other", name="other")]}
    world.apply(hooks)
    first = world.event(acme)
    await_(lambda: world.shown(acme, first).get("attempts"), "its 410")
    receiver.answers = {}
    later = [world.event(acme) for _ in range(3)]
    await_(lambda: set(receiver.ids("/other")) == {first, *later}, "the other endpoint's")
    assert world.live is not None
    world.live.kill()
    world.live.start()
    fence = world.event(acme)
    await_(lambda: fence in receiver.ids("/other"), "the other endpoint's after a kill", 30)
    due_ms = world.shown(acme, first)["due_at"]
    await_(lambda: time.time() * 1000 > due_ms + 1_000, "the time of its next attempt")
    assert receiver.ids("/") == [first]
    world.apply(hooks)  # the same once more
    await_(lambda: set(receiver.ids("/", 204)) == {first, fence, *later}, "all of it")


def test_an_event_is_told_again_when_asked(world: World, receiver: Receiver) -> None:
    acme = tenant()
    world.apply({acme: [hook(receiver, "/one", name="one"), hook(receiver, "/two", name="two")]})
    batch_id = f"batch_{uuid.uuid4().hex}"
    event_id = world.event(acme, batch_id=batch_id)
    await_(lambda: len(receiver.got) == 2, "both")
    world.event(acme, event_id=event_id, batch_id=batch_id, repeat=True, endpoint="one")
    await_(lambda: receiver.ids("/one") == [event_id, event_id], "the repetition")
    await_(lambda: len(world.shown(acme, event_id, "one")["attempts"]) == 2, "both attempts in the log")
    last = world.event(acme)
    await_(lambda: last in receiver.ids("/two"), "another event")
    assert receiver.ids("/two") == [event_id, last]


def test_a_tenant_and_an_operator_read_the_log_and_ask_again(
    world: World, receiver: Receiver, gateway: httpx.Client
) -> None:
    acme, globex = tenant(), tenant()
    receiver.answers = {"/bad": 500}
    world.apply({acme: [hook(receiver, "/good", name="good"), hook(receiver, "/bad", name="bad")], globex: []})
    await_(lambda: gateway.get("/deliveries", headers=key(acme)).status_code == 200, "the configuration at the gateway")
    sent = [world.event(acme, kind) for kind in webhooks.TYPES]
    foreign = world.event(globex)
    await_(lambda: all(world.shown(acme, e, "bad").get("attempts") for e in sent), "attempts")
    await_(lambda: all(world.status(acme, e, "good") == "delivered" for e in sent), "deliveries")

    whole = gateway.get("/deliveries", headers=key(acme), params={"limit": 100}).json()
    assert (whole["object"], whole["has_more"], len(whole["data"])) == ("list", False, 8)
    pages, after = [], ""
    while True:
        page = gateway.get(
            "/deliveries", headers=key(acme), params={"limit": 3} | ({"after": after} if after else {})
        ).json()
        pages += page["data"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    assert pages == whole["data"] and len({d["id"] for d in pages}) == 8
    pending = gateway.get("/deliveries", headers=key(acme), params={"status": "pending"}).json()["data"]
    assert {d["event_id"] for d in pending} == set(sent) and {d["endpoint"] for d in pending} == {"bad"}
    for delivery in pending:
        assert delivery["last_error"] == "it answered 500" and delivery["attempts"][0]["status_code"] == 500
        assert delivery["next_attempt_at"] > delivery["attempts"][-1]["at"] and delivery["object"] == "webhook.delivery"
    assert (
        gateway.get("/deliveries", headers=key("ops"), params={"tenant": acme, "limit": 100}).json()["data"]
        == whole["data"]
    )
    assert gateway.get("/deliveries", headers=key(globex)).json()["data"] == []

    again = gateway.post(f"/deliveries/{sent[0]}/redeliver", headers=key(acme), json={"endpoint": "good"})
    assert (again.status_code, again.json()["endpoints"]) == (202, ["good"])
    await_(lambda: receiver.ids("/good").count(sent[0]) == 2, "the repetition")
    both = gateway.post(f"/deliveries/{sent[1]}/redeliver", headers=key("ops"), params={"tenant": acme})
    assert (both.status_code, both.json()["endpoints"]) == (202, ["good", "bad"])
    await_(lambda: receiver.ids("/good").count(sent[1]) == 2 and receiver.ids("/bad").count(sent[1]) >= 2, "both")

    refused = [
        (401, gateway.get("/deliveries")),
        (403, gateway.get("/deliveries", headers=key(acme), params={"tenant": globex})),
        (400, gateway.get("/deliveries", headers=key(acme), params={"limit": 0})),
        (400, gateway.get("/deliveries", headers=key(acme), params={"status": "lost"})),
        (400, gateway.get("/deliveries", headers=key(acme), params={"after": "evt_0/good"})),
        (404, gateway.post("/deliveries/evt_0/redeliver", headers=key(acme))),
        (404, gateway.post(f"/deliveries/{foreign}/redeliver", headers=key(acme))),
        (404, gateway.post(f"/deliveries/{foreign}/redeliver", headers=key(globex))),  # nobody there wants it
        (404, gateway.post(f"/deliveries/{sent[0]}/redeliver", headers=key(acme), json={"endpoint": "nobody"})),
        (400, gateway.post(f"/deliveries/{sent[0]}/redeliver", headers=key(acme), json={"endpoint": 7})),
        (400, gateway.post(f"/deliveries/{sent[0]}/redeliver", headers=key(acme), content=b"[")),
    ]
    for status, response in refused:
        assert response.status_code == status, response.text
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}

    world.parts.stop("redis", kill=True)
    try:
        assert gateway.get("/deliveries", headers=key(acme)).status_code == 503
        last = world.event(acme)
        await_(lambda: last in receiver.ids("/good"), "an event while Redis is away")
    finally:
        world.parts.start("redis")
    await_(lambda: world.status(acme, last, "good") == "delivered", "the log, written anew", 60)
