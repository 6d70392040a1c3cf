"""Calls that wait for their answer, by (tenant, request id)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from ingest.envelope import ApiError

MAX_CALLS: Final = 20_000
# Of these, calls that wait in the batch lane: the others are never kept out by those that have time.
MAX_PATIENT: Final = MAX_CALLS // 2
# Chunks kept for a caller who reads slowly. Those above are dropped; the reply brings the rest of the text.
MAX_CHUNKS: Final = 1_024


@dataclass(frozen=True, slots=True)
class Gone:
    """The caller has hung up."""


Chunk = dict[str, Any]
Reply = dict[str, Any]
GONE: Final = Gone()


class Call:
    """One caller. Events come from Kafka, from the caller's connection and from timers; one coroutine takes them."""

    __slots__ = ("_waiter", "chunks", "end", "key", "patient", "stream")

    def __init__(self, tenant: str, request_id: str, stream: bool, patient: bool = False) -> None:
        self.key = (tenant, request_id)
        self.stream = stream
        self.patient = patient
        self.chunks: deque[Chunk] = deque()
        self.end: Reply | ApiError | Gone | None = None
        self._waiter: asyncio.Future[None] | None = None

    def offer(self, chunk: Chunk) -> None:
        """A piece of the answer; dropped if the caller wants no pieces or is far behind."""
        if self.stream and self.end is None and len(self.chunks) < MAX_CHUNKS:
            self.chunks.append(chunk)
            self._wake()

    def finish(self, end: Reply | ApiError | Gone) -> None:
        """How the call ends. The first end counts."""
        if self.end is None:
            self.end = end
            self._wake()

    def refused(self, reason: str) -> None:
        """Kafka did not take the request."""
        self.finish(ApiError(503, f"The request could not be queued: {reason}", code="not_queued", type="server_error"))

    async def ready(self) -> None:
        """Wait until there are chunks or an end."""
        if self.chunks or self.end is not None:
            return
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Waiting:
    """All waiting calls of this process. Several may wait for one request: repeats under an Idempotency-Key."""

    def __init__(self, limit: int = MAX_CALLS, most_patient: int = MAX_PATIENT) -> None:
        self._limit = limit
        self._most_patient = most_patient
        self._calls: dict[tuple[str, str], list[Call]] = {}
        self._count = self._patient = 0

    def __len__(self) -> int:
        return self._count

    def has_room(self) -> bool:
        """Whether one more call may wait."""
        return self._count < self._limit

    def has_patient_room(self) -> bool:
        """Whether one more call may wait in the batch lane."""
        return self._patient < self._most_patient

    def enter(self, call: Call) -> None:
        """Begin to wait; check `has_room` before."""
        assert self._count < self._limit
        self._calls.setdefault(call.key, []).append(call)
        self._count += 1
        self._patient += call.patient

    def leave(self, call: Call) -> None:
        """Wait no longer."""
        calls = self._calls[call.key]
        calls.remove(call)
        self._count -= 1
        self._patient -= call.patient
        if not calls:
            del self._calls[call.key]

    def deliver(self, records: Iterable[tuple[str, dict[str, Any]]]) -> None:
        """Hand over records of replies.<gateway>, in order. Those for nobody (here) are dropped."""
        for name, record in records:
            for call in self._calls.get((record["tenant"], record["request_id"]), ()):
                if name == "Chunk":
                    call.offer(record)
                else:
                    call.finish(record)

    def end_all(self, error: ApiError) -> None:
        """End every call with `error`."""
        for calls in self._calls.values():
            for call in calls:
                call.finish(error)
