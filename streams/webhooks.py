"""Tells tenants by webhook what has happened: a part of the live application (streams/live.py).

It reads `events`, and writes to `deliveries` what becomes of each: first that it is planned, then every attempt. So
what is pending is in the log before it is tried, and what was tried after. Whoever gets a partition of `events` first
reads the same one of `deliveries` again, whole, then the events that nobody planned: neither the group's offsets nor
Redis decide over what is delivered. A kill at any moment repeats at most the attempts that were under way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, cast

import faust
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException
from faust.exceptions import NotReady
from faust.types import TP, StreamT

from schemas import topics
from schemas.addresses import Addresses
from schemas.config import ConfigDocument
from schemas.records import Attempt, Delivery, Event
from schemas.webhooks import Webhook
from schemas.wire import Codec, WireError
from streams import deliveries, webhook_signing
from streams.config_tail import ConfigTail
from streams.deliveries import Endpoint
from streams.delivery_queue import Queue, Start
from streams.delivery_view import DeliveryView
from streams.patience import keep_trying_async
from streams.rereading import Line, reread
from streams.webhook_sender import Answer, Sender
from streams.webhook_signing import SecretError

log: Final = logging.getLogger("live")

LOOK_S: Final = 0.25
FORGET_MS: Final = 3_600_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Webhooks:
    """One run, as a part of `app`. Secrets are read from `environ`."""

    def __init__(self, app: faust.App, addresses: Addresses, codec: Codec, environ: Mapping[str, str]) -> None:
        self._addresses, self._codec, self._environ = addresses, codec, environ
        self._queue = Queue()
        self._view = DeliveryView(addresses.redis)
        self._webhooks: dict[str, tuple[Webhook, ...]] = {}
        self._configured, self._wake = asyncio.Event(), asyncio.Event()
        # By partition of `events`: whether what is known of it was read again, its next offset, who may write.
        self._mine: set[int] = set()
        self._ready: defaultdict[int, asyncio.Event] = defaultdict(asyncio.Event)
        self._position: dict[int, int] = {}
        self._locks: defaultdict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._assignments: asyncio.Queue[int] = asyncio.Queue()
        self._partition_of: dict[str, int] = {}
        raw: dict[str, Any] = {"value_type": bytes, "key_type": bytes}
        raw |= {"value_serializer": "raw", "key_serializer": "raw"}
        self._log = app.topic(topics.DELIVERIES, **raw)
        app.agent(app.topic(topics.EVENTS, **raw), name="events")(self._events)
        app.on_partitions_assigned.connect(self._assigned)
        app.task(self._run)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        tail = ConfigTail(
            self._addresses.kafka,
            f"{self._addresses.service}-webhooks",
            self._codec,
            lambda *found: loop.call_soon_threadsafe(self._configure, *found),
        )
        tail.start()
        try:
            async with Sender() as sender, asyncio.TaskGroup() as group:
                group.create_task(self._view.run())
                group.create_task(self._recover_all(group))
                await self._deliver(sender, group)
        finally:
            await asyncio.to_thread(tail.stop)

    def _configure(self, document: ConfigDocument, published_ms: int) -> None:
        self._webhooks = {tenant: settings.webhooks for tenant, settings in document.settings.items()}
        endpoints = {Endpoint(t, w.name): w for t, found in self._webhooks.items() for w in found}
        self._queue.configure(endpoints, published_ms)
        log.info(
            "webhooks as of config %s, published at %d: %d endpoints", document.version, published_ms, len(endpoints)
        )
        self._configured.set()
        self._wake.set()

    # Partitions

    async def _assigned(self, _app: Any, /, *given: Any, **_more: Any) -> None:
        """Faust's signal: the partitions given, of all topics, are ours from now on."""
        assigned: Iterable[TP] = given[0]
        mine = {place.partition for place in assigned if place.topic == topics.EVENTS}
        new, self._mine = mine - self._mine, mine
        self._queue.keep(tenant for tenant, partition in self._partition_of.items() if partition in mine)
        for partition in sorted(new):
            self._ready[partition] = asyncio.Event()
            self._assignments.put_nowait(partition)

    async def _recover_all(self, group: asyncio.TaskGroup) -> None:
        await self._configured.wait()
        while True:
            group.create_task(self._recover(await self._assignments.get()))

    async def _recover(self, partition: int) -> None:
        """Learn what is known of a partition: 1. all deliveries, 2. the events after those that were planned."""
        known = await self._reread(topics.DELIVERIES, partition, 0, self._newest)
        position = deliveries.next_position(known.values())
        unplanned = await self._reread(topics.EVENTS, partition, position, list)
        async with self._locks[partition]:
            for delivery in known.values():
                self._partition_of[delivery["tenant"]] = partition
                self._put(partition, delivery)
        self._position[partition] = position
        for line in unplanned:
            await self._plan(partition, line)
        pending = sum(d["status"] == "pending" for d in known.values())
        log.info("webhooks of partition %d: %d pending, %d new events", partition, pending, len(unplanned))
        self._ready[partition].set()

    async def _reread(self, topic: str, partition: int, start: int, make: Any) -> Any:
        def read() -> Any:
            name = f"{self._addresses.service}-webhooks"
            return make(reread(self._addresses.kafka, name, topic, partition, start)[0])

        return await keep_trying_async("kafka", lambda: asyncio.to_thread(read), (KafkaException, TimeoutError))

    def _newest(self, lines: Iterable[Line]) -> dict[deliveries.Key, Delivery]:
        decoded = (self._decode(line.value, "Delivery", f"{topics.DELIVERIES}@{line.offset}") for line in lines)
        return {deliveries.key(d): d for d in decoded if d is not None}

    # Events

    async def _events(self, stream: StreamT[Any]) -> None:
        async for event in stream.events():
            message = event.message
            await self._ready[message.partition].wait()
            if message.partition in self._mine:
                at_ms = int(1000 * message.timestamp)
                await self._plan(message.partition, Line(message.offset, at_ms, cast(bytes, message.value)))

    async def _plan(self, partition: int, line: Line) -> None:
        """Write the deliveries that an event asks for, if that was not done."""
        async with self._locks[partition]:
            if line.offset < self._position.get(partition, 0):
                return
            event: Event | None = self._decode(line.value, "Event", f"{topics.EVENTS}/{partition}@{line.offset}")
            if event is not None:
                self._partition_of[event["tenant"]] = partition
                webhooks = self._webhooks.get(event["tenant"], ())
                planned = deliveries.plan(event, line.offset, self._queue.known, webhooks, line.at_ms, _now_ms())
                await self._write(partition, planned)
                for delivery in planned:
                    self._put(partition, delivery)
            self._position[partition] = line.offset + 1
        self._wake.set()

    def _decode(self, value: bytes, schema: str, where: str) -> Any:
        try:
            name, record = self._codec.decode(value)
            if name != schema:
                raise WireError(f"a {name}, not a {schema}")
        except WireError as error:
            log.error("%s left out: %s", where, error.reason)
            return None
        return record

    # Deliveries

    async def _deliver(self, sender: Sender, group: asyncio.TaskGroup) -> None:
        forgot_ms = _now_ms()
        while True:
            now_ms = _now_ms()
            starts, lost = self._queue.next(now_ms)
            for start in starts:
                group.create_task(self._attempt(sender, start))
            for delivery in lost:
                group.create_task(self._change(delivery, deliveries.given_up))
            if now_ms - forgot_ms > FORGET_MS:
                forgot_ms = now_ms
                self._queue.forget(now_ms)
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_S)
            except TimeoutError:
                continue
            self._wake.clear()

    async def _attempt(self, sender: Sender, start: Start) -> None:
        began_ms = _now_ms()
        answer = await self._post(sender, start, began_ms // 1000)
        attempt: Attempt = {
            "at": began_ms,
            "http_status": answer.http_status,
            "error": answer.error,
            "took_ms": _now_ms() - began_ms,
        }
        self._say(start.delivery, attempt)
        await self._change(start.delivery, partial(deliveries.after, attempt=attempt), tried=True)
        self._wake.set()

    async def _post(self, sender: Sender, start: Start, now_s: int) -> Answer:
        try:
            keys = webhook_signing.keys_of(start.webhook.variables, self._environ)
        except SecretError as error:
            return Answer(0, str(error))
        body = webhook_signing.body(start.delivery)
        headers = webhook_signing.headers(start.delivery["event_id"], now_s, body, keys)
        return await sender.post(start.webhook, body, headers)

    def _say(self, delivery: Delivery, attempt: Attempt) -> None:
        endpoint = Endpoint(delivery["tenant"], delivery["endpoint"])
        where, well = "/".join(endpoint), self._queue.is_well(endpoint)
        if attempt["http_status"] == deliveries.GONE:
            log.warning("webhook %s is gone (410): it is not called again before the next apply", where)
        elif attempt["error"] and well:
            log.warning("webhook %s fails: %s; trying again for a day", where, attempt["error"])
        elif not attempt["error"] and not well:
            log.info("webhook %s takes events again", where)

    async def _change(self, delivery: Delivery, change: Callable[[Delivery], Delivery], *, tried: bool = False) -> None:
        """Record a change of a delivery as it is by then: it may have been begun anew meanwhile."""
        partition, key = self._partition_of[delivery["tenant"]], deliveries.key(delivery)
        async with self._locks[partition]:
            changed = change(self._queue.known.get(key, delivery))
            await self._write(partition, [changed])
            if tried:
                self._queue.end(key)
            self._put(partition, changed)
        if changed["status"] != "pending":
            what = (changed["type"], changed["event_id"], changed["tenant"], changed["endpoint"])
            log.info("%s %s to %s/%s: %s", *what, changed["status"])

    async def _write(self, partition: int, changed: Sequence[Delivery]) -> None:
        """Into the log, in this order, for as long as it takes."""
        records = [(deliveries.log_key(d), self._codec.encode("Delivery", d)) for d in changed]
        await keep_trying_async("kafka", partial(self._send, partition, records), (KafkaError, NotReady))

    async def _send(self, partition: int, records: Iterable[tuple[bytes, bytes]]) -> None:
        # The producer keeps the order of a partition, also where it sends again.
        sent = [await self._log.send(key=key, value=value, partition=partition) for key, value in records]
        await asyncio.gather(*sent)

    def _put(self, partition: int, delivery: Delivery) -> None:
        if partition in self._mine:
            self._queue.put(delivery)
            self._view.note(delivery)
