"""What becomes of a record that cannot be read. Pure."""

from __future__ import annotations

from confluent_kafka import Message

from schemas.records import DeadLetter
from schemas.wire import WireError


def dead_letter(message: Message, error: WireError, at_ms: int) -> DeadLetter:
    """The record for `dead_letters`: where it was, why it cannot be read, and its original bytes."""
    key = message.key()
    return {
        "tenant": "",
        "source_topic": str(message.topic()),
        "partition": int(message.partition() or 0),
        "offset": int(message.offset() or 0),
        "reason": error.reason,
        "schema_id": error.schema_id,
        "key": key.encode() if isinstance(key, str) else key,
        "value": bytes(message.value() or b""),
        "at": at_ms,
    }
