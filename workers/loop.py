"""The worker: takes work, starts what the lanes choose, and settles each piece in the order that protects data."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import Any, Final

from confluent_kafka import Message, TopicPartition

from schemas import topics
from schemas.records import DeadLetter
from schemas.wire import Codec, WireError
from workers import dead, outcome
from workers.answer import answer
from workers.cancellations import Cancellations
from workers.channel import Channel
from workers.clock import now_ms
from workers.docket import Docket
from workers.follow import Live
from workers.intake import Intake
from workers.outbox import Outbox
from workers.outcome import Ending, Fault, Refusal
from workers.partitions import Partitions, pool_and_lane
from workers.quarantine import Quarantine
from workers.rules import Rules, UnknownRules
from workers.screen import Screen
from workers.station import Item, Station, settings
from workers.suspicion import DEATHS
from workers.watermark import Watermark

log = logging.getLogger(__name__)

COMMIT_S: Final = 1.0
# What is in flight gets this long at a revocation and at the end.
DRAIN_S: Final = 20.0
# Without the record of a start, work goes on all the same: a death would go unexplained.
RECORD_S: Final = 2.0
# A rebalance this soon after our own change of subscription is taken to be its consequence.
OWN_REBALANCE_MS: Final = 15_000

UNMODERATED: Final = Refusal("failed", 500, "The rules for the answer are not known.", "moderation_unavailable")
POISON: Final = Refusal("failed", 500, "The request ended each worker that ran it.", "poison_request")
BROKEN: Final = Refusal("failed", 500, "The attempt failed.", "internal_error")
# Seconds without a partition of some topic that we subscribed to, until the group is nudged, and between nudges.
MISSED: Final = 4


class Worker:
    """One process' part of all pools. Runs in the event loop; reads nothing until an intake is attached."""

    def __init__(self, service: str, codec: Codec, outbox: Outbox) -> None:
        self._service, self._codec, self._outbox = service, codec, outbox
        self._partitions = Partitions(uuid.uuid4().hex[:8])
        self.cancellations = Cancellations()
        self._live: Live | None = None
        self._rules = Rules()
        self._stations: dict[str, Station] = {}
        self._docket = Docket(codec)
        self._quarantine = Quarantine(self._record)
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscribed_ms = 0
        self._ending = False

    async def _attempt(self, item: Item, station: Station, charge_ms: float | None) -> None:
        """1. `take` has read it. Each step below must be safe to repeat if the process dies after it."""
        work, attempt, started = item.work, uuid.uuid4().hex, now_ms()
        channel = Channel(self._outbox, self._codec, work, attempt, self._service)
        engine: tuple[str, str, str] = (station.setting.pool.engine, "", "")
        try:
            try:
                # 2. Refuse what is late or taken back, and what kills.
                refusal = self._refusal(item, started)
                if refusal is None:
                    await self._quarantine.enter(item)
                    refusal = self._refusal(item, now_ms()) or await self._poison(item)
                if refusal is not None:
                    ending = outcome.refused(refusal)
                else:
                    # 3. Run it.  4. Moderate before anything leaves.
                    ending, engine = await self._answer(item, station, channel)
                # 5. Chunks are with Kafka before the completion is.
                await channel.drained()
            except Exception:  # A fault of ours must not leave work without an end: its partition would stand still.
                log.exception("%s: an attempt at %s broke", work["pool"], work["request_id"])
                ending = outcome.refused(BROKEN, item.seen.counts, streamed=item.seen.streamed)
            # 6. Append the completion, and wait until Kafka has it.
            record = outcome.completion(
                work, ending, attempt=attempt, worker=self._service, engine=engine, started=started, finished=now_ms()
            )
            await self._outbox.put(topics.JOURNAL, work["tenant"].encode(), self._codec.encode("Completion", record))
            # 7. Only now is the offset done; the low watermark is committed by the clock and on revocation.
            self._docket.settle(item, now_ms())
        finally:
            await self._quarantine.leave(item)
            if charge_ms is not None:
                station.lanes.finish(work["lane"], charge_ms, now_ms() - started)
            self._docket.leave(item)
            self._start(station)

    async def _answer(self, item: Item, station: Station, channel: Channel) -> tuple[Ending, tuple[str, str, str]]:
        pool, work = station.setting.pool, item.work
        try:
            engine = station.lease()
        except Fault as fault:
            return outcome.refused(fault.refusal), (pool.engine, "", "")
        try:
            screen = Screen(await self._rules.find(work["rules"]), engine.secret)
            item.stoppable = True
            ending = await answer(work, pool, engine, screen, channel, item.seen)
            return ending, (engine.kind, engine.model_version, engine.precision)
        except UnknownRules:
            return outcome.refused(UNMODERATED), (engine.kind, engine.model_version, engine.precision)
        finally:
            item.stoppable = False
            station.release(engine)

    def _refusal(self, item: Item, now: int) -> Refusal | None:
        work = item.work
        reason = self.cancellations.reason(work["tenant"], work["request_id"], work["admitted_at"], now)
        return outcome.before(work, now, item.seen.stop_reason or reason)

    async def _poison(self, item: Item) -> Refusal | None:
        if item.suspect is None or item.deaths < DEATHS:
            return None
        log.error("%s: %s was running at %d deaths", item.work["pool"], item.work["request_id"], item.deaths)
        await self._bury(dead.poison(item.suspect, item.work, item.deaths, now_ms()))
        return POISON

    async def _bury(self, letter: DeadLetter) -> None:
        await self._outbox.put(topics.DEAD_LETTERS, letter["key"] or b"", self._codec.encode("DeadLetter", letter))

    def take(self, messages: list[Message]) -> None:
        """Records from the intake, in order."""
        touched, now = set[str](), now_ms()
        for message in messages:
            place = (str(message.topic()), int(message.partition() or 0))
            mark = self._partitions.get(place)
            offset = int(message.offset() or 0)
            if mark is None or not mark.take(offset):
                continue
            pool, lane = pool_and_lane(place[0])
            station = self._stations.get(pool)
            item = None
            try:
                item = self._docket.enter(message, mark, offset, station, now) if station is not None else None
            except WireError as error:
                self._spawn(self._unreadable(message, error, mark, offset))
            if item is not None and station is not None:
                if self._refusal(item, now) is not None:  # It needs no slot to be told so.
                    item.task = self._spawn(self._attempt(item, station, None))
                else:
                    station.lanes.arrive(lane, now)
                    station.buffers[lane].put(item, len(message))
                    touched.add(pool)
            if mark.crowded or (station is not None and station.buffers[lane].paused):
                self._partitions.pause(place)
        for pool in touched:
            self._start(self._stations[pool])

    async def _unreadable(self, message: Message, error: WireError, mark: Watermark, offset: int) -> None:
        log.error("%s/%s/%d: %s", message.topic(), message.partition(), offset, error.reason)
        await self._bury(dead.unreadable(message, error, now_ms()))
        mark.finish(offset)

    def _start(self, station: Station) -> None:
        """Start what the lanes choose until slots or work run out."""
        now = now_ms()
        while not self._ending:
            lane = station.lanes.choose(station.waiting(), now)
            if lane is None:
                break
            item = station.buffers[lane].take()
            if item.task is None:
                item.task = self._spawn(self._attempt(item, station, station.lanes.start(lane)))
        self._partitions.resume(self._roomy)

    def _roomy(self, topic: str) -> bool:
        pool, lane = pool_and_lane(topic)
        return pool not in self._stations or not self._stations[pool].buffers[lane].paused

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("an attempt broke; its work stays uncommitted", exc_info=task.exception())

    def cancel(self, control: Any) -> None:
        """A control record: end what runs, and answer what waits without waiting for a slot."""
        self.cancellations.note(control, now_ms())
        key = (control["tenant"], control["request_id"])
        for item in [item for item in self._docket.open.values() if item.identity[:2] == key]:
            if control["at"] < item.work["admitted_at"] or item.seen.stop_reason is not None:
                continue
            item.seen.stop_reason = control["reason"]
            if item.task is None:
                item.task = self._spawn(self._attempt(item, item.station, None))
            elif item.stoppable:
                item.task.cancel()

    def configure(self, live: Live) -> None:
        """A configuration came into force."""
        self._live = live
        self._rules.replace(live.moderators)
        wanted = settings(live.document)
        for name, setting in wanted.items():
            if name in self._stations:
                self._stations[name].reset(setting)
                self._start(self._stations[name])
            else:
                self._stations[name] = Station(setting)
        for name in self._stations.keys() - wanted.keys():
            self._stations.pop(name).retire()
        self._subscribe()
        log.info("configuration %s: pools %s", live.document.version, ", ".join(sorted(wanted)) or "none")

    def attach(self, intake: Intake) -> None:
        """Read through `intake` from now on."""
        self._partitions.intake = intake
        self._subscribe()

    async def detach(self) -> None:
        """The intake broke: nothing is ours any more. What runs goes on; its record comes again and finds it."""
        self._partitions.intake = None
        await self.revoked([TopicPartition(*place) for place in self._partitions], lost=True)

    def _subscribe(self) -> None:
        intake = self._partitions.intake
        if intake is None or self._live is None:
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

    async def _record(self) -> None:
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

    async def drain(self) -> None:
        """Start nothing more, finish what runs, commit, leave."""
        self._ending = True
        for seconds in (DRAIN_S, 1):
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=seconds)
                for task in late:
                    task.cancel()
        if self._partitions.intake is not None:
            await self._partitions.intake.close(self._partitions.end(list(self._partitions)))
        for station in self._stations.values():
            await station.close()
