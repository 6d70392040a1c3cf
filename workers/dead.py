"""What becomes of a record that cannot be read, and of work that kills its workers. Pure."""

from __future__ import annotations

from confluent_kafka import Message

from schemas.records import DeadLetter, Work
from schemas.wire import WireError


def unreadable(message: Message, error: WireError, at_ms: int) -> DeadLetter:
    """The record for `dead_letters`: where it was, why it cannot be read, and its original bytes."""
    return _letter(message, "", error.reason, error.schema_id, at_ms)


def poison(message: Message, work: Work, deaths: int, at_ms: int) -> DeadLetter:
    """The record for `dead_letters` of work that was running at so many deaths of workers."""
    reason = f"poison_request: request {work['request_id']} was running at the deaths of {deaths} workers, and alone"
    return _letter(message, work["tenant"], reason, None, at_ms)


def _letter(message: Message, tenant: str, reason: str, schema_id: int | None, at_ms: int) -> DeadLetter:
    key = message.key()
    return {
        "tenant": tenant,
        "source_topic": str(message.topic()),
        "partition": int(message.partition() or 0),
        "offset": int(message.offset() or 0),
        "reason": reason,
        "schema_id": schema_id,
        "key": key.encode() if isinstance(key, str) else key,
        "value": bytes(message.value() or b""),
        "at": at_ms,
        "headers": {},
        "truncated": False,
    }
