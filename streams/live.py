"""The live application (Faust): what people look at while it happens. It can be rebuilt from the topics at any time
and is never the source of money.

Run as `python -m streams.live`. Consumes `usage` and `batch_results`, keeps no tables: the view is in Redis. The
consumer group is named after the view's generation, so a view that was lost (FLUSHALL, a new Redis) is counted by a
new group, which begins at the beginning of the topics. Events are another matter, in streams/webhooks.py: what becomes
of them is in the log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import faust
from confluent_kafka import Consumer, TopicPartition
from faust.streams import Stream
from faust.types import EventT, StreamT

from schemas import registry, topics
from schemas.addresses import Addresses
from schemas.wire import Codec, WireError
from streams import progress
from streams.committed import CommittedTransport
from streams.live_view import Lost, View
from streams.patience import Sparing, keep_trying
from streams.webhooks import Webhooks

log: Final = logging.getLogger("live")

# Many records make one call to Redis; a view that is a quarter of a second old is live.
TAKE: Final = 2_000
WITHIN_S: Final = 0.25
WATCH_S: Final = 5.0
# A worker that could not go on begins again after this pause, in the same process id.
PAUSE_S: Final = 1.0
STOP_S: Final = 8.0
RESTART: Final = 75
TIMEOUT_S: Final = 5.0
CONSUMED: Final = (topics.USAGE, topics.BATCH_RESULTS)


def group(generation: str) -> str:
    """Consumer group of a generation of the view."""
    return f"live-{generation}"


def _decode(codec: Codec, event: EventT[Any], schema: str) -> Any:
    """The record of an event, or None after one line if it is not a `schema`."""
    try:
        name, record = codec.decode(cast(bytes, event.message.value))
        if name != schema:
            raise WireError(f"a {name}, not a {schema}")
    except WireError as error:
        at = event.message
        log.error("%s/%d@%d left out: %s", at.topic, at.partition, at.offset, error.reason)
        return None
    return record


class Live:
    """One run of the application over one generation of the view."""

    def __init__(self, addresses: Addresses, codec: Codec, view: View, generation: str) -> None:
        self._codec = codec
        self._view = view
        self.lost = False
        self.app = faust.App(
            group(generation),
            broker=f"kafka://{addresses.kafka}",
            datadir=addresses.home / "live",
            store="memory://",
            value_serializer="raw",
            web_enabled=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            # A restarted process takes its old place at once, instead of waiting for it to time out.
            consumer_group_instance_id=addresses.service,
            broker_session_timeout=10.0,
            broker_heartbeat_interval=3.0,
            stream_wait_empty=False,
        )
        self.app.transport = CommittedTransport([*self.app.conf.broker], self.app, loop=self.app.loop)
        self.app.agent(self._topic(topics.USAGE), name="usage")(self._usage)
        self.app.agent(self._topic(topics.BATCH_RESULTS), name="batch_results")(self._results)
        self.app.timer(WATCH_S)(self._watch)
        self.webhooks = Webhooks(self.app, addresses, codec, os.environ)

    def _topic(self, name: str) -> Any:
        return self.app.topic(name, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw")

    def _by_partition(self, events: Sequence[EventT[Any]], schema: str) -> dict[int, list[tuple[int, Any]]]:
        found: dict[int, list[tuple[int, Any]]] = {}
        for event in events:
            item = (event.message.offset, _decode(self._codec, event, schema))
            found.setdefault(event.message.partition, []).append(item)
        return found

    async def _usage(self, stream: StreamT[Any]) -> None:
        async for events in cast(Stream[Any], stream).take_events(TAKE, within=WITHIN_S):
            for partition, records in self._by_partition(events, "Usage").items():
                try:
                    await self._view.count(partition, records, time.time_ns() // 1_000_000)
                except Lost:
                    self._begin_again()
                    return

    async def _results(self, stream: StreamT[Any]) -> None:
        async for events in cast(Stream[Any], stream).take_events(TAKE, within=WITHIN_S):
            for partition, records in self._by_partition(events, "BatchResult").items():
                after = records[-1][0] + 1
                await self._view.mark(partition, after, [record for _, record in records if record is not None])

    async def _watch(self) -> None:
        if not await self._view.is_ours():
            self._begin_again()

    def _begin_again(self) -> None:
        if not self.lost:
            log.warning("the live view in Redis is gone; counting the topics again")
        self.lost = True
        os.kill(os.getpid(), signal.SIGUSR1)


class Worker(faust.Worker):
    """Faust's worker, which leaves STOP_S after a signal at the latest: a broker that is away must not hold it.

    SIGUSR1 is our own, to begin again; `told` is whether SIGTERM came, also while it was leaving for that.
    """

    told = False

    def _on_sigterm(self) -> None:
        self.told = True
        self._leave()

    def _on_sigusr1(self) -> None:
        self._leave()

    def _leave(self) -> None:
        timer = threading.Timer(STOP_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        super()._on_sigterm()


def _committed(kafka: str, generation: str) -> dict[str, int]:
    """Next offsets of the generation's group, by progress.position_field; none for a new group.

    Raises KafkaException while the broker is away, RuntimeError while it lacks a topic.
    """
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group(generation), "log_level": 0})
    try:
        partitions: list[TopicPartition] = []
        for topic in CONSUMED:
            found = consumer.list_topics(topic, timeout=TIMEOUT_S).topics[topic]
            if found.error is not None:
                raise RuntimeError(f"topic {topic}: {found.error.str()}")
            partitions += [TopicPartition(topic, number) for number in found.partitions]
        answer = consumer.committed(partitions, timeout=TIMEOUT_S)
        return {progress.position_field(p.topic, p.partition): p.offset for p in answer if p.offset >= 0}
    finally:
        consumer.close()


async def _open(view: View, kafka: str) -> str:
    """The generation to count; a new one where the view has a gap that its group would not fill."""
    generation = await view.open()
    committed = keep_trying("kafka", lambda: _committed(kafka, generation))
    if progress.has_gap(committed, await view.positions()):
        log.warning("the live view lacks records that were read; counting the topics again")
        await view.forget()
        generation = await view.open()
    return generation


def _run(addresses: Addresses) -> int:
    """One run; 0 when told to stop, RESTART when the view has to be counted anew, else a crash."""
    codec = keep_trying("registry", lambda: registry.connect(addresses.registry))
    view = View(addresses.redis)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    generation = loop.run_until_complete(_open(view, addresses.kafka))
    log.info("counting as generation %s of the live view", generation)
    live = Live(addresses, codec, view, generation)
    worker = Worker(live.app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return RESTART if live.lost and not worker.told else int(end.code or 0)


def main(environ: Mapping[str, str] = os.environ) -> None:
    """Run until SIGTERM. A run that crashed, or whose view is gone, is followed by another in the same process id."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-5s %(message)s", stream=sys.stdout)
    log.setLevel(logging.INFO)
    for handler in logging.getLogger().handlers:
        handler.addFilter(Sparing())
    code = _run(Addresses.of(environ))
    if code:
        time.sleep(PAUSE_S)
        os.execv(sys.executable, [sys.executable, "-m", "streams.live"])


if __name__ == "__main__":
    main()
