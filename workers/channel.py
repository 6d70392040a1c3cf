"""The way from an attempt to the caller who waits, and to the journal."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import orjson
from confluent_kafka import KafkaException

from schemas import topics
from schemas.records import Chunk, Started, Work
from schemas.wire import Codec
from workers.clock import now_ms
from workers.engines import CHAT
from workers.outbox import Flight, Outbox

log = logging.getLogger(__name__)

# A gateway that is gone must not hold back the completion: it carries the whole answer.
DRAIN_S: Final = 10.0


class Channel:
    """One attempt's chunks and its Started record."""

    def __init__(self, outbox: Outbox, codec: Codec, work: Work, attempt: str, worker: str) -> None:
        self._outbox, self._codec, self._work = outbox, codec, work
        self._attempt, self._worker = attempt, worker
        self._flight = Flight(outbox)
        self._sequence = 0
        self._begun: set[int] = set()
        self._chat = work["endpoint"] == CHAT
        kind = "chat.completion.chunk" if self._chat else "text_completion"
        self._head = {"id": f"chatcmpl-{work['request_id']}", "object": kind, "created": int(time.time())}

    async def announce(self) -> None:
        """Append Started to the journal and wait until Kafka has it."""
        started: Started = {
            "tenant": self._work["tenant"],
            "request_id": self._work["request_id"],
            "attempt": self._attempt,
            "pool": self._work["pool"],
            "worker": self._worker,
            "started_at": now_ms(),
        }
        await self._outbox.put(topics.JOURNAL, self._work["tenant"].encode(), self._codec.encode("Started", started))

    async def send(self, chunk: dict[str, Any]) -> None:
        """Queue one chunk for the caller; the first of each choice says whose turn it is."""
        chunk = {**chunk, "choices": [self._shaped(c) for c in chunk["choices"]]}
        data = orjson.dumps({**self._head, **chunk, **self._head, "model": self._work["model"]})
        record: Chunk = {
            "tenant": self._work["tenant"],
            "request_id": self._work["request_id"],
            "attempt": self._attempt,
            "sequence": self._sequence,
            "data": data,
        }
        self._sequence += 1
        key = self._work["request_id"].encode()
        await self._outbox.post(self._flight, self._work["reply_to"], key, self._codec.encode("Chunk", record))

    async def drained(self) -> None:
        """Wait until Kafka has every chunk, but not for ever."""
        if not self._sequence:
            return
        try:
            await asyncio.wait_for(self._flight.landed(), DRAIN_S)
        except (TimeoutError, KafkaException) as error:
            log.warning("%s %s: chunks were lost: %r", self._work["reply_to"], self._work["request_id"], error)

    def _shaped(self, choice: dict[str, Any]) -> dict[str, Any]:
        """A choice that only brings log probabilities has a text all the same: clients read it unasked."""
        if not self._chat:
            return {"text": "", **choice}
        index, delta = choice.get("index", 0), choice.get("delta") or {}
        role = {} if index in self._begun else {"role": "assistant"}
        self._begun.add(index)
        return {**choice, "delta": {**role, **delta}}
