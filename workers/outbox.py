"""What this worker writes: one idempotent producer, its acknowledgements brought into the event loop in bunches."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from schemas import kafka
from workers.client import PATIENT

log = logging.getLogger(__name__)

# Long enough to gather the chunks and completions of one moment into one request, short beside a first token.
LINGER_MS: Final = 1.0
# Nobody waits for the completion of a batch line: fewer, larger requests spare the broker and all who read the journal.
BATCH_LINGER_MS: Final = 10.0
# A record that cannot be delivered for this long is given back to its writer, who decides.
DELIVERY_MS: Final = 30_000
FULL_WAIT_S: Final = 0.01


class Flight:
    """Records on their way; await `landed` once all were posted."""

    __slots__ = ("_done", "_outbox", "error", "flying")

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self.flying = 0
        self.error: Any = None
        self._done: asyncio.Future[None] | None = None

    def acked(self, error: Any, _message: Any) -> None:
        """Called in the producer's thread for each record."""
        self._outbox.ready.append((self, error))

    def land(self, error: Any) -> None:
        """Called in the event loop for each record."""
        self.flying -= 1
        self.error = self.error or error
        if not self.flying and self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def landed(self) -> None:
        """Wait until every record posted so far is acknowledged. Raises KafkaException if one of them is lost."""
        if self.flying:
            self._done = asyncio.get_running_loop().create_future()
            await self._done
        if self.error is not None:
            raise KafkaException(self.error)


class Outbox:
    """The producer. Start and use it in the event loop."""

    def __init__(self, bootstrap: str, client_id: str, linger_ms: float = LINGER_MS) -> None:
        settings = kafka.producer(bootstrap, client_id, linger_ms=linger_ms)
        self._producer = Producer({**settings, **PATIENT, "delivery.timeout.ms": DELIVERY_MS})
        self._loop = asyncio.get_running_loop()
        self._closing = False
        self.ready: list[tuple[Flight, Any]] = []
        self._thread = threading.Thread(target=self._serve, name="outbox", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._closing:
            self._producer.poll(0.5)
            if self.ready:
                ready, self.ready = self.ready, []
                self._loop.call_soon_threadsafe(self._land, ready)

    def _land(self, ready: list[tuple[Flight, Any]]) -> None:
        for flight, error in ready:
            flight.land(error)

    async def post(self, flight: Flight, topic: str, key: bytes, value: bytes) -> None:
        """Queue a record as part of `flight`; waits while the producer's queue is full."""
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=flight.acked)
            except BufferError:
                await asyncio.sleep(FULL_WAIT_S)
                continue
            flight.flying += 1
            return

    async def put(self, topic: str, key: bytes, value: bytes) -> None:
        """Write a record and wait until Kafka has it, however long that takes: at least once."""
        while True:
            flight = Flight(self)
            await self.post(flight, topic, key, value)
            try:
                await flight.landed()
            except KafkaException as error:
                log.warning("%s: not delivered, trying again: %s", topic, error)
                continue
            return

    async def close(self, seconds: float) -> None:
        """Wait at most `seconds` for what is queued, then stop."""
        left = await asyncio.to_thread(self._producer.flush, seconds)
        if left:
            log.warning("%d records were not delivered before the end", left)
        self._closing = True
        await asyncio.to_thread(self._thread.join, 2)
