"""Dead letters: which are open, which may be replayed, and how people see them. Pure."""

from __future__ import annotations

import base64
from collections.abc import Container
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from ingest.arrival import PLACE, PREFIX, REPLAY_OF
from schemas.records import DeadLetter, Replay

PREVIEW_BYTES: Final = 200


class Letter(NamedTuple):
    """A dead letter. `number` is its offset in dead_letters, `replayed` whether its bytes went back to their topic."""

    number: int
    record: DeadLetter
    replayed: bool

    @property
    def place(self) -> str:
        """`partition:offset` that the record had in its topic the first time."""
        before = self.record["headers"].get(REPLAY_OF, b"")
        own = f"{self.record['partition']}:{self.record['offset']}"
        return before.decode() if PLACE.fullmatch(before) else own


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters are meant: by number, tenant, topic, a part of the reason; those replayed only if asked for."""

    numbers: Container[int] | None = None
    tenant: str = ""
    topic: str = ""
    reason: str = ""
    replayed: bool = False

    def takes(self, letter: Letter) -> bool:
        """Whether a letter is meant."""
        record = letter.record
        return (
            (self.numbers is None or letter.number in self.numbers)
            and (self.replayed or not letter.replayed)
            and self.tenant in ("", record["tenant"])
            and self.topic in ("", record["source_topic"])
            and self.reason.lower() in record["reason"].lower()
        )


def obstacle(letter: Letter) -> str:
    """Why a letter cannot be replayed; empty if it can."""
    record = letter.record
    if letter.replayed:
        return "was replayed already"
    if not record["source_topic"].startswith(PREFIX) or record["offset"] < 0:
        return f"comes from {record['source_topic']}: only what producers wrote to an intake topic is replayed"
    if record["truncated"]:
        return "is only the beginning of the record"
    return ""


def headers(letter: Letter) -> list[tuple[str, bytes]]:
    """Headers of the record when it is replayed: its own, and which record it is."""
    own = [(name, value) for name, value in letter.record["headers"].items() if name != REPLAY_OF]
    return [*own, (REPLAY_OF, letter.place.encode())]


def replay(letter: Letter, by: str, now_ms: int) -> Replay:
    """What is noted of a replay."""
    partition, _, offset = letter.place.partition(":")
    record = letter.record
    return Replay(
        tenant=record["tenant"],
        source_topic=record["source_topic"],
        partition=int(partition),
        offset=int(offset),
        letter=letter.number,
        by=by,
        at=now_ms,
    )


def document(letter: Letter) -> dict[str, Any]:
    """A letter as JSON; bytes in base64."""
    record = letter.record
    plain = {name: value for name, value in record.items() if name not in ("key", "value", "headers")}
    key = record["key"]
    return {
        "number": letter.number,
        **plain,
        "place": letter.place,
        "replayed": letter.replayed,
        "key": base64.b64encode(key).decode() if key is not None else None,
        "headers": {name: base64.b64encode(value).decode() for name, value in record["headers"].items()},
        "value": base64.b64encode(record["value"]).decode(),
    }


def line(letter: Letter) -> str:
    """A letter in one line."""
    record = letter.record
    where = f"{record['source_topic']}[{record['partition']}]@{record['offset']}"
    again = f" (replay of {letter.place})" if REPLAY_OF in record["headers"] else ""
    state = "replayed" if letter.replayed else "open"
    return f"{letter.number}\t{state}\t{where}{again}\t{printable(record['reason'].encode())}"


def printable(value: bytes, most: int = PREVIEW_BYTES) -> str:
    """The beginning of bytes as text that harms no terminal."""
    text = value[:most].decode("utf-8", "backslashreplace")
    shown = "".join(ch if ch.isprintable() else ch.encode("unicode_escape").decode() for ch in text)
    return shown + (f"… ({len(value)} bytes)" if len(value) > most else "")
