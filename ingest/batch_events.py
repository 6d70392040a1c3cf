"""Tells the log that a batch has ended: a row for the lake, and an Event, which streams/live.py delivers to the
tenant's webhooks.
"""

from __future__ import annotations

import threading
import time
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from ingest.batch_document import Document
from ingest.batch_jobs import Stopped, Unannounced
from ingest.batch_rows import row
from ingest.brokers import quiet
from schemas import kafka, topics, webhooks
from schemas.records import Event
from schemas.wire import Codec

WAIT_S: Final = 10.0
POLL_S: Final = 0.1


def event_of(document: Document) -> Event:
    """The event of a batch that has ended; the same one however often it is asked for."""
    batch, tenant = document.batch, document.private.tenant
    assert document.terminal, "a batch that goes on is no event"
    ended_s = {
        "completed": batch.completed_at,
        "failed": batch.failed_at,
        "expired": batch.expired_at,
        "cancelled": batch.cancelled_at,
    }[batch.status]
    kind = f"batch.{batch.status}"
    return {
        "tenant": tenant,
        "event_id": webhooks.event_id(batch.id, kind),
        "type": kind,
        "batch_id": batch.id,
        "created_at": 1000 * (ended_s or batch.created_at),
        "repeat": False,
        "endpoint": "",
    }


class BatchEvents:
    """Writes what became of batches for any thread, and waits until Kafka has it. `stop` ends the waiting."""

    def __init__(self, bootstrap: str, service: str, codec: Codec, stop: threading.Event) -> None:
        client_id = f"{service}-events"
        settings = kafka.producer(bootstrap, client_id) | {"message.timeout.ms": int(1000 * WAIT_S)}
        self._producer = Producer({**settings, **quiet(client_id)})
        self._codec = codec
        self._stop = stop

    def announce(self, document: Document) -> None:
        """Say that the batch has ended. Raises Unannounced if Kafka may not have it, Stopped."""
        records = [
            (topics.BATCHES, self._codec.encode("Batch", row(document))),
            (topics.EVENTS, self._codec.encode("Event", event_of(document))),
        ]
        answers: list[KafkaError | None] = []

        def report(error: KafkaError | None, _message: object) -> None:
            answers.append(error)

        key = document.private.tenant.encode()
        try:
            for topic, value in records:
                self._producer.produce(topic, value, key, on_delivery=report)
        except (BufferError, KafkaException) as error:
            raise Unannounced(f"the end of {document.batch.id} was not written: {error}") from error
        end = time.monotonic() + WAIT_S + 1
        while len(answers) < len(records):
            if self._stop.is_set():
                raise Stopped(f"announcing {document.batch.id}")
            if time.monotonic() > end:
                raise Unannounced(f"the end of {document.batch.id} was not acknowledged")
            self._producer.poll(POLL_S)
        faults = [error.str() for error in answers if error is not None]
        if faults:
            raise Unannounced(f"the end of {document.batch.id} was not written: {faults[0]}")
