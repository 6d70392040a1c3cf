"""A record of an intake topic as Kafka gave it, who it is, and what is kept of it when it is set aside. Pure."""

from __future__ import annotations

import re
import uuid
from typing import Final, NamedTuple

from schemas.records import DeadLetter

PREFIX: Final = "intake."
IDS: Final = uuid.UUID("0b7e5a4e-5d0c-5a3b-8c1d-6d696c6c7262")
CONTENT_TYPE: Final = "content-type"
# On a record that was replayed: the partition and offset it had when it was set aside.
REPLAY_OF: Final = "millrace-replay-of"
PLACE: Final = re.compile(rb"\d{1,10}:\d{1,19}")
# What is left of a record that even the topic of dead letters, 8 MiB a record, cannot take whole.
CUT_BYTES: Final = 7 * 1024 * 1024
HEADER_BYTES: Final = 64 * 1024


class Arrival(NamedTuple):
    """A record of intake. `headers` by name in lower case; `timestamp_ms` is when the broker took it, 0 if unknown."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes] = {}  # noqa: RUF012 (nobody changes it)
    timestamp_ms: int = 0

    @property
    def tenant(self) -> str:
        """Whose record it is: its topic says so, and only its tenant's principals may write there."""
        return self.topic.removeprefix(PREFIX)

    @property
    def media_type(self) -> str:
        """The media type of its content-type header, in lower case; empty without one."""
        kind = self.headers.get(CONTENT_TYPE)
        return kind.partition(b";")[0].strip().lower().decode("latin-1") if kind else ""

    @property
    def place(self) -> str:
        """`partition:offset`, of the first time where it was replayed."""
        replayed = self.headers.get(REPLAY_OF)
        if replayed is not None and PLACE.fullmatch(replayed):
            return replayed.decode()
        return f"{self.partition}:{self.offset}"


class BadRecordError(ValueError):
    """A record that cannot become a request."""

    def __init__(self, reason: str, schema_id: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.schema_id = schema_id


def identity(arrival: Arrival) -> str:
    """The id of a record without one: the same whenever it is read again, also after a replay."""
    return str(uuid.uuid5(IDS, f"{arrival.topic}:{arrival.place}"))


def dead_letter(arrival: Arrival, fault: BadRecordError, now_ms: int) -> DeadLetter:
    """The record set aside, with its original bytes. One too large for any topic is cut, and its letter says so."""
    value, reason = arrival.value or b"", fault.reason
    headers = arrival.headers
    if sum(map(len, headers.values())) > HEADER_BYTES:
        headers = {name: v for name, v in headers.items() if name in (CONTENT_TYPE, REPLAY_OF) and len(v) <= 256}
        reason += " (of its headers only those that matter here are kept)"
    if truncated := len(value) > CUT_BYTES:
        reason += f" (its first {CUT_BYTES} of {len(value)} bytes are here)"
    return DeadLetter(
        tenant=arrival.tenant,
        source_topic=arrival.topic,
        partition=arrival.partition,
        offset=arrival.offset,
        reason=reason,
        schema_id=fault.schema_id,
        key=arrival.key,
        value=value[:CUT_BYTES],
        at=now_ms,
        headers=headers,
        truncated=truncated,
    )
