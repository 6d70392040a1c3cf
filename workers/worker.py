"""The worker: what was read waits at its pool's station, the lanes choose, and the loop walks what they chose."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Message

from schemas.wire import Codec, WireError
from workers import dead, reading
from workers.clock import now_ms
from workers.docket import Docket
from workers.follow import Live
from workers.item import Item
from workers.loop import Loop
from workers.membership import Membership
from workers.outbox import Outbox
from workers.partitions import Partitions, Place, pool_and_lane
from workers.quarantine import Quarantine
from workers.reading import Reading
from workers.station import Station, settings
from workers.watermark import Watermark

log = logging.getLogger(__name__)

# What is in flight gets this long at the end, unless the environment says otherwise; a spot machine's notice is 120 s.
DRAIN_S: Final = 20.0
# Work that has only just begun cannot pause yet; it is asked again after this.
MOMENT_S: Final = 0.02


class Worker:
    """One process' part of all pools. Runs in the event loop; reads nothing until an intake is attached."""

    def __init__(
        self, service: str, codec: Codec, outbox: Outbox, drain_s: float = DRAIN_S, batch: Outbox | None = None
    ) -> None:
        self._service, self._drain_s = service, drain_s
        self.stations: dict[str, Station] = {}
        self._partitions = Partitions(uuid.uuid4().hex[:8])
        self._docket = Docket(codec)
        self.membership = Membership(self._partitions, self.stations, self._docket, self.take)
        self._loop = Loop(service, codec, outbox, batch or outbox, self._docket, Quarantine(self.membership.record))
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarms: dict[Station, asyncio.TimerHandle] = {}
        self._ending = False

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
            station = self.stations.get(pool)
            item = None
            try:
                item = self._docket.enter(message, mark, offset, station, now) if station is not None else None
            except WireError as error:
                self._spawn(self._unreadable(message, error, mark, offset))
            if item is not None and station is not None:
                if self._loop.refusal(item, now) is not None:  # It needs no slot to be told so.
                    item.task = self._spawn(self._serve(item, station, None))
                else:
                    station.lanes.arrive(lane, now)
                    station.buffers[lane].put(item, len(message))
                    touched.add(pool)
            if mark.crowded or (station is not None and station.buffers[lane].paused):
                self._partitions.pause(place)
        for pool in touched:
            self._start(self.stations[pool])

    async def _unreadable(self, message: Message, error: WireError, mark: Watermark, offset: int) -> None:
        log.error("%s/%s/%d: %s", message.topic(), message.partition(), offset, error.reason)
        await self._loop.bury(dead.unreadable(message, error, now_ms()))
        mark.finish(offset)

    def _start(self, station: Station) -> None:
        """Pause what is in the way, and start what the lanes choose until slots or work run out."""
        now = now_ms()
        if station.batch and not self._ending and station.pause_surplus(now):
            self._wake(station, MOMENT_S)
        while not self._ending:
            lane = station.choose(now)
            if lane is None:
                break
            item = station.buffers[lane].take()
            if item.task is None:
                item.task = self._spawn(self._serve(item, station, station.start(item, now)))
        self._partitions.resume(self._roomy)
        again_ms = None if self._ending else station.lanes.again_ms(station.waiting(), now)
        if again_ms is not None:
            self._wake(station, again_ms / 1000)

    def _wake(self, station: Station, in_s: float) -> None:
        """Start again by then, whatever else comes."""
        loop, alarm = asyncio.get_running_loop(), self._alarms.get(station)
        if alarm is not None and alarm.when() > loop.time() + in_s:
            alarm.cancel()
            alarm = None
        if alarm is None:
            self._alarms[station] = loop.call_later(in_s, self._ring, station)

    def _ring(self, station: Station) -> None:
        del self._alarms[station]
        self._start(station)

    def _roomy(self, topic: str) -> bool:
        pool, lane = pool_and_lane(topic)
        return pool not in self.stations or not self.stations[pool].buffers[lane].paused

    async def _serve(self, item: Item, station: Station, charge_ms: float | None) -> None:
        """Walk it, in a slot if that was charged for."""
        started, ended = now_ms(), True
        try:
            ended = await self._loop.walk(item, station)
        finally:
            if charge_ms is not None:
                station.finish(item, charge_ms, now_ms() - started, now_ms(), ended=ended)
            if ended or self._ending or not self._partitions.holds(mark for mark, _ in item.marks):
                self._docket.leave(item)
                station.repeated_tokens += 0 if ended else item.seen.spent  # Whoever runs it next begins anew.
            else:
                self._put_back(item, station)
            self._start(station)

    def _put_back(self, item: Item, station: Station) -> None:
        """It paused: it goes on before others, or ends if it was taken back meanwhile."""
        item.stops += 1
        item.seen.pausing, item.task = False, None
        if item.seen.stop_reason is not None:
            item.task = self._spawn(self._serve(item, station, None))
        else:
            station.buffers[item.work["lane"]].put_back(item, item.size_bytes)

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
        self._loop.cancellations.note(control, now_ms())
        key = (control["tenant"], control["request_id"])
        for item in [item for item in self._docket.open.values() if item.identity[:2] == key]:
            if control["at"] < item.work["admitted_at"] or item.seen.stop_reason is not None:
                continue
            item.seen.stop_reason = control["reason"]
            if item.task is None:
                item.task = self._spawn(self._serve(item, item.station, None))
            elif item.stoppable:
                item.task.cancel()

    def configure(self, live: Live) -> None:
        """A configuration came into force."""
        self._loop.rules.replace(live.moderators)
        wanted = settings(live.document)
        for name, setting in wanted.items():
            if name in self.stations:
                self.stations[name].reset(setting)
                self._start(self.stations[name])
            else:
                self.stations[name] = Station(setting)
        for name in self.stations.keys() - wanted.keys():
            self.stations.pop(name).retire()
        self.membership.configured()
        log.info("configuration %s: pools %s", live.document.version, ", ".join(sorted(wanted)) or "none")

    @property
    def places(self) -> list[Place]:
        """The partitions that are ours."""
        return list(self._partitions)

    def reading(self, ends: Mapping[Place, int]) -> Reading:
        """How it stands with everything; `ends` are those of the logs of our partitions."""
        return reading.take(self._service, self.stations, self._docket.open.values(), self._partitions, ends, now_ms())

    async def drain(self) -> None:
        """Start nothing more, give up batch work, finish what callers wait for, commit, leave.

        What is given up has no completion, and its offset stays: the next worker runs it.
        """
        self._ending = True
        for alarm in self._alarms.values():
            alarm.cancel()
        for station in self.stations.values():
            for item in station.batch:
                item.pause()
        for seconds in (self._drain_s, 1):
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=seconds)
                for task in late:
                    task.cancel()
        await self.membership.leave()
        for station in self.stations.values():
            await station.close()
