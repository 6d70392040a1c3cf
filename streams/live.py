"""The live application (Faust): what people look at while it happens. It can be rebuilt from the topics at any time
and is never the source of money.

Run as `python -m streams.live`. Consumes `usage` and `batch_results`, keeps no tables: the view is in Redis. The
consumer group is named after the view's generation, so a view that was lost (FLUSHALL, a new Redis) is counted by a
new group, which begins at the beginning of the topics.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import faust
from faust.streams import Stream
from faust.types import EventT, StreamT

from schemas import registry, topics
from schemas.addresses import Addresses
from schemas.records import BatchResult, Usage
from schemas.wire import Codec, WireError
from streams.committed import CommittedTransport
from streams.live_view import BACKOFF_S, Lost, View

log: Final = logging.getLogger("live")

# Many records make one call to Redis; a view that is a quarter of a second old is live.
TAKE: Final = 2_000
WITHIN_S: Final = 0.25
WATCH_S: Final = 5.0
# A worker that could not go on begins again after this pause, in the same process id.
PAUSE_S: Final = 1.0
STOP_S: Final = 8.0
RESTART: Final = 75
QUIET_S: Final = 15.0


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
            f"live-{generation}",
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

    def _topic(self, name: str) -> Any:
        return self.app.topic(name, value_type=bytes, key_type=bytes, value_serializer="raw", key_serializer="raw")

    async def _usage(self, stream: StreamT[Any]) -> None:
        async for events in cast(Stream[Any], stream).take_events(TAKE, within=WITHIN_S):
            by_partition: dict[int, list[tuple[int, Usage | None]]] = {}
            for event in events:
                found = (event.message.offset, _decode(self._codec, event, "Usage"))
                by_partition.setdefault(event.message.partition, []).append(found)
            for partition, records in by_partition.items():
                try:
                    await self._view.count(partition, records, time.time_ns() // 1_000_000)
                except Lost:
                    self._begin_again()
                    return

    async def _results(self, stream: StreamT[Any]) -> None:
        async for events in cast(Stream[Any], stream).take_events(TAKE, within=WITHIN_S):
            found = [_decode(self._codec, event, "BatchResult") for event in events]
            await self._view.mark([cast(BatchResult, record) for record in found if record is not None])

    async def _watch(self) -> None:
        if not await self._view.is_ours():
            self._begin_again()

    def _begin_again(self) -> None:
        if not self.lost:
            log.warning("the live view in Redis is gone; counting the topics again")
        self.lost = True
        os.kill(os.getpid(), signal.SIGTERM)


class Sparing(logging.Filter):
    """Lets one line of the Kafka client through in QUIET_S: while a broker is away it writes forty a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if not record.name.startswith("aiokafka"):
            return True
        due = record.created >= self._next_s
        if due:
            self._next_s = record.created + QUIET_S
        return due


class Worker(faust.Worker):
    """Faust's worker, which leaves STOP_S after SIGTERM at the latest: a broker that is away must not hold it."""

    def _on_sigterm(self) -> None:
        timer = threading.Timer(STOP_S, os._exit, (0,))
        timer.daemon = True
        timer.start()
        super()._on_sigterm()


def _await(what: str, call: Callable[[], Any]) -> Any:
    """The result of `call`, tried for as long as it takes; one line when it begins to fail."""
    failures = 0
    while True:
        try:
            return call()
        except Exception as error:  # each client raises its own kinds; all of them mean "not yet"
            if failures == 0:
                log.warning("%s is away (%s: %s); trying again", what, type(error).__name__, error)
            time.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), timeout=2).close()


def _run(addresses: Addresses) -> int:
    """One run; 0 when told to stop, RESTART when the view has to be counted anew, else a crash."""
    codec = _await("registry", lambda: registry.connect(addresses.registry))
    _await("kafka", lambda: _reach(addresses.kafka))
    view = View(addresses.redis)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    generation = loop.run_until_complete(view.open())
    log.info("counting as generation %s of the live view", generation)
    live = Live(addresses, codec, view, generation)
    worker = Worker(live.app, loop=loop, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None
    try:
        worker.execute_from_commandline()
    except SystemExit as end:
        return RESTART if live.lost else int(end.code or 0)


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
