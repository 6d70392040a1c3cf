"""A piece of work from its reading to its completion, and what of it lives on while it pauses."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import Message

from schemas.records import Work
from workers.answer import Progress
from workers.channel import Channel
from workers.engines import Engine
from workers.screen import Screen
from workers.watermark import Watermark

if TYPE_CHECKING:
    from workers.station import Station

# Work that was stopped so often runs to its end: each stop repeats some of it.
MOST_STOPS = 8
# So often where it begins anew each time.
MOST_RESTARTS = 2


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt at a piece of work, over all its pauses. `started_at` in ms UTC."""

    id: str
    started_at: int
    channel: Channel
    engine: Engine | None = None
    screen: Screen | None = None


@dataclass(slots=True, eq=False)
class Item:
    """A piece of work. `marks` are the places in the log that it settles; it came `arrived_at`, ms UTC.

    `stoppable` says that its task may be cancelled. `suspect` is its original record, if a worker may have died of it;
    `deaths` are those at which it was running. `stops` counts its pauses.
    """

    work: Work
    identity: tuple[str, str, int]
    station: Station
    marks: list[tuple[Watermark, int]]
    size_bytes: int = 0
    arrived_at: int = 0
    seen: Progress = field(default_factory=Progress)
    task: asyncio.Task[None] | None = None
    stoppable: bool = False
    suspect: Message | None = None
    deaths: int = 0
    attempt: Attempt | None = None
    stops: int = 0

    @property
    def patient(self) -> bool:
        """Whether it may be paused. What may kill its worker may not: the evidence is for what runs."""
        if self.suspect is not None or not self.stoppable or self.seen.pausing:
            return False
        if self.seen.continuation is not None:
            return self.stops < MOST_STOPS
        return self.stops < MOST_RESTARTS and not self.seen.streamed

    def pause(self) -> None:
        """Have it pause after the piece that it is at."""
        self.seen.pausing = True
        if self.seen.waits and self.task is not None:
            self.task.cancel()
