"""This worker's part in its group: partitions come and go, and what is done of them is committed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import Message, TopicPartition

from schemas import topics
from workers.clock import now_ms
from workers.docket import Docket
from workers.intake import Intake
from workers.partitions import Partitions
from workers.station import Station

log = logging.getLogger(__name__)

COMMIT_S: Final = 1.0
# What is in flight gets this long at a revocation.
DRAIN_S: Final = 20.0
# Without the record of a start, work goes on all the same: a death would go unexplained.
RECORD_S: Final = 2.0
# A rebalance this soon after our own change of subscription is taken to be its consequence.
OWN_REBALANCE_MS: Final = 15_000
# Seconds without a partition of some topic that we subscribed to, until the group is nudged, and between nudges.
MISSED: Final = 4


class Membership:
    """What the intake talks to. `take` gets the records; nothing comes until an intake is attached."""

    def __init__(
        self,
        partitions: Partitions,
        stations: dict[str, Station],
        docket: Docket,
        take: Callable[[list[Message]], None],
    ) -> None:
        self._partitions, self._stations, self._docket = partitions, stations, docket
        self.take = take
        self._configured = False
        self._subscribed_ms = 0

    def attach(self, intake: Intake) -> None:
        """Read through `intake` from now on."""
        self._partitions.intake = intake
        self._subscribe()

    async def detach(self) -> None:
        """The intake broke: nothing is ours any more. What runs goes on; its record comes again and finds it."""
        self._partitions.intake = None
        await self.revoked([TopicPartition(*place) for place in self._partitions], lost=True)

    def configured(self) -> None:
        """The stations have changed: read the topics of all of them."""
        self._configured = True
        self._subscribe()

    def _subscribe(self) -> None:
        intake = self._partitions.intake
        if intake is None or not self._configured:
            return
        if intake.subscribe(topics.work(p, lane).name for p in self._stations for lane in topics.LANES):
            self._subscribed_ms = now_ms()

    async def assigned(self, committed: list[TopicPartition]) -> list[TopicPartition]:
        """These partitions are ours, from these offsets on; what to commit before anything is read of them."""
        mine = self._partitions.begin(committed, now_ms())
        for name, station in self._stations.items():
            station.assign(mine.get(name, frozenset()))
        log.info("assigned %s", {name: sorted(indexes) for name, indexes in sorted(mine.items())})
        return self._partitions.offsets([(p.topic, p.partition) for p in committed])

    async def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> list[TopicPartition]:
        """These go: drop what waits, finish what runs; the offsets to commit."""
        places = {(p.topic, p.partition) for p in partitions}
        gone = {id(self._partitions.get(place)) for place in places}
        for item in [
            i for i in self._docket.open.values() if i.task is None and all(id(m) in gone for m, _ in i.marks)
        ]:
            del self._docket.open[item.identity]
            item.station.repeated_tokens += item.seen.spent  # If it was stopped, whoever reads it next begins anew.
        for station in self._stations.values():
            station.lanes.slots = 0
            for buffer in station.buffers.values():
                buffer.keep(lambda item: item.identity in self._docket.open)
        running = [i.task for i in self._docket.open.values() if i.task is not None]
        own = now_ms() - self._subscribed_ms < OWN_REBALANCE_MS
        if running and not lost and not own:
            await asyncio.wait(running, timeout=DRAIN_S)
        offsets = self._partitions.end(places)
        return [] if lost else offsets

    async def record(self) -> None:
        """Commit what has changed, and wait until Kafka has it."""
        intake, offsets = self._partitions.intake, self._partitions.offsets(list(self._partitions))
        if intake is not None and offsets:
            await intake.commit_now(offsets, RECORD_S)

    async def tend_always(self) -> None:
        """Every second: commit what is done, and see that what was subscribed to is also assigned."""
        missed = 0
        while True:
            await asyncio.sleep(COMMIT_S)
            intake, ours = self._partitions.intake, self._partitions.topics()
            if intake is None or not ours:
                continue
            offsets = self._partitions.offsets(list(self._partitions))
            if offsets:
                intake.commit(offsets)
            missed = missed + 1 if intake.topics - ours else 0
            if missed >= MISSED and missed % MISSED == 0:
                await asyncio.to_thread(intake.nudge, intake.topics - ours)

    async def leave(self) -> None:
        """Commit what is done, and leave the group."""
        if self._partitions.intake is not None:
            await self._partitions.intake.close(self._partitions.end(list(self._partitions)))
