"""The row of an ended batch for the lake, written to the topic `batches` before the batcher lets go of the batch."""

from __future__ import annotations

import logging
import threading
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from ingest.batch_document import Document, Kinds
from schemas import topics
from schemas.wire import Codec

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 30.0


class RowError(Exception):
    """Kafka did not take the row; writing it again is safe."""


def row(document: Document) -> dict[str, Any]:
    """The Batch record of a document whose batch has ended."""
    assert document.terminal, "only an ended batch has a row"
    batch, private = document.batch, document.private
    kinds, usage, counts = private.kinds or Kinds(), batch.usage, batch.request_counts
    ends = (batch.completed_at, batch.failed_at, batch.expired_at, batch.cancelled_at)
    ended_ms = 1_000 * max(at for at in ends if at is not None)
    faults = batch.errors.data if batch.errors is not None else ()
    return {
        "batch_id": batch.id,
        "tenant": private.tenant,
        "key_id": private.key_id,
        "endpoint": batch.endpoint,
        "model": batch.model or "",
        "status": batch.status,
        "window_s": (private.deadline_ms - private.created_ms) // 1_000,
        "lines": counts.total,
        "completed_lines": counts.completed,
        "failed_lines": counts.failed,
        "expired_lines": kinds.expired,
        "cancelled_lines": kinds.cancelled,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id or "",
        "error_file_id": batch.error_file_id or "",
        "error_code": faults[0].code if faults else "",
        "retry_of": private.retry.batch_id if private.retry is not None else "",
        "created_at": private.created_ms,
        "started_at": 1_000 * batch.in_progress_at if batch.in_progress_at is not None else ended_ms,
        "deadline_at": private.deadline_ms,
        "ended_at": ended_ms,
    }


class Rows:
    """Writes rows through the batcher's producer, whose loop is what calls back."""

    def __init__(self, producer: Producer, codec: Codec) -> None:
        self._producer, self._codec = producer, codec

    def write(self, document: Document) -> None:
        """Write a row and wait until it is acknowledged. Raises RowError."""
        done, faults = threading.Event(), list[KafkaError]()

        def report(error: KafkaError | None, message: Message) -> None:
            del message
            faults.extend([error] if error is not None else [])
            done.set()

        value = self._codec.encode("Batch", row(document))
        try:
            self._producer.produce(topics.BATCHES, value, document.private.tenant.encode(), on_delivery=report)
        except (KafkaException, BufferError) as error:
            raise RowError(f"the row of {document.batch.id} was not written: {error}") from error
        if not done.wait(TIMEOUT_S) or faults:
            why = faults[0].str() if faults else f"no answer within {TIMEOUT_S:.0f} s"
            raise RowError(f"the row of {document.batch.id} was not written: {why}")
