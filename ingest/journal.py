"""Appends records to Kafka from an asyncio process.

There is no thread: librdkafka sends by itself, and delivery reports are collected by the event loop, often while
somebody waits for one and rarely otherwise (then only failures matter, and those have a limit of ten seconds anyway).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from ingest.brokers import Outage, quiet
from schemas import kafka
from schemas.wire import Codec

log = logging.getLogger(__name__)

ACK_TIMEOUT_MS: Final = 10_000
BUSY_S: Final = 0.005
IDLE_S: Final = 0.1

Failed = Callable[[str], None]


class JournalError(Exception):
    """A record was not acknowledged by Kafka; it may or may not be in the log."""


class Journal:
    """An idempotent producer. Create it inside a running event loop; use it from that loop's thread only."""

    def __init__(self, bootstrap: str, client_id: str, codec: Codec) -> None:
        settings = kafka.producer(bootstrap, client_id, linger_ms=0)
        settings |= {"message.timeout.ms": ACK_TIMEOUT_MS, "queue.buffering.max.messages": 100_000}
        self._outage = Outage(client_id)
        self._producer = Producer({**settings, **quiet(client_id), "error_cb": self._on_error})
        self._codec = codec
        self._awaited = 0
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(IDLE_S, self._tick)

    def append(
        self, topic: str, key: str | None, schema: str, record: Mapping[str, Any], partition: int = -1
    ) -> asyncio.Future[None]:
        """Append one record; the future ends when all replicas have it (within 10 s), or with JournalError.

        Raises ValueError or TypeError if the record does not fit its schema.
        """
        future: asyncio.Future[None] = self._loop.create_future()

        def report(error: KafkaError | None, _message: object) -> None:
            self._awaited -= 1
            if future.done():
                return
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(JournalError(error.str()))

        value = self._codec.encode(schema, record)
        try:
            self._produce(topic, key, value, report, partition)
        except JournalError as error:
            future.set_exception(error)
            return future
        self._awaited += 1
        if self._awaited == 1:
            self._timer.cancel()
            self._timer = self._loop.call_later(BUSY_S, self._tick)
        return future

    def post(self, topic: str, key: str, schema: str, record: Mapping[str, Any], failed: Failed) -> None:
        """Append one record without waiting; `failed(reason)` is called, within 10 s, if Kafka did not take it.

        Raises JournalError if the send queue is full, ValueError or TypeError if the record does not fit.
        """

        def report(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                failed(error.str())

        self._produce(topic, key, self._codec.encode(schema, record), report, -1)

    def _produce(self, topic: str, key: str | None, value: bytes, report: Callable[..., None], partition: int) -> None:
        raw = None if key is None else key.encode()
        try:
            self._producer.produce(topic, value, raw, partition, on_delivery=report)
        except BufferError:
            raise JournalError("the queue of records to send is full") from None
        except KafkaException as error:
            raise JournalError(error.args[0].str()) from error

    def _tick(self) -> None:
        self._producer.poll(0)
        self._timer = self._loop.call_later(BUSY_S if self._awaited else IDLE_S, self._tick)

    async def reachable(self, topic: str, timeout_s: float = 1.0) -> bool:
        """Whether a broker answers about `topic` within `timeout_s` seconds."""
        try:
            metadata = await asyncio.to_thread(self._producer.list_topics, topic, timeout_s)
        except KafkaException:
            return False
        return metadata.topics[topic].error is None

    def _on_error(self, error: KafkaError) -> None:
        """A fatal error ends an idempotent producer for good; the process manager starts us anew."""
        self._outage(error)
        if error.fatal():
            os.kill(os.getpid(), signal.SIGTERM)

    async def close(self, timeout_s: float = 1.5) -> None:
        """Send what is queued, for at most `timeout_s` seconds, and stop."""
        self._timer.cancel()
        left = await asyncio.to_thread(self._producer.flush, timeout_s)
        if left:
            log.warning("%d records were not acknowledged before the end", left)
