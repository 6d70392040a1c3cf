"""One pool in this worker: its lanes, what waits in them, and its engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, Final

from schemas.config import ConfigDocument
from schemas.topics import LANES
from workers import share
from workers.buffer import Buffer
from workers.engines import Engine, Setting, can_stop, open_engine
from workers.item import Item
from workers.lanes import Lanes
from workers.outcome import Fault
from workers.turns import Claim, Turns

log = logging.getLogger(__name__)

# Room in the context for a model that names no limit, in tokens: half of what small models are trained on.
DEFAULT_INPUT: Final = 2_048
DEFAULT_OUTPUT: Final = 2_048
# Batch lines are put in order among those that were read, so more of them are: several tenants', within 32 MiB.
BATCH_HIGH: Final = 1_024
BATCH_LOW: Final = 512
# Bytes of a prompt that make a token, as a rule; it only weighs tenants against each other.
TOKEN_BYTES: Final = 4


def claim(entry: tuple[Item, int]) -> Claim:
    """What a batch line asks for."""
    work = entry[0].work
    cost = len(work["body"]) / TOKEN_BYTES + (work["max_output_tokens"] or DEFAULT_OUTPUT)
    return Claim(work["tenant"], work["deadline"], cost)


class Station:
    """A configured pool. Its engine is opened when it first has slots, and replaced when its setting changes."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.partitions: frozenset[int] = frozenset()
        self.lanes = Lanes(0, setting.pool.protection, stops=can_stop(setting.pool))
        self.buffers = _buffers(setting)
        # Batch work that runs, and tokens computed again because of pauses.
        self.batch: dict[Item, None] = {}
        self.repeated_tokens = 0
        self._engine: Engine | None = None
        self._users: dict[Engine, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def assign(self, partitions: frozenset[int]) -> None:
        """These partition indexes are ours; that decides the slots, and loads the engine if there are any."""
        self.partitions = partitions
        self.lanes.slots = share.slots(self.setting.pool.concurrency, partitions)
        if self.lanes.slots:
            self._spawn(self._warm())

    def reset(self, setting: Setting) -> None:
        """Take a new setting; the old engine ends with its last job."""
        if setting == self.setting:
            return
        before, self.setting = self.setting, setting
        self.lanes.protection, self.lanes.stops = setting.pool.protection, can_stop(setting.pool)
        if setting.pool.protection != before.pool.protection:
            self._requeue()
        self._retire()
        self.assign(self.partitions)

    def _requeue(self) -> None:
        before, self.buffers = self.buffers, _buffers(self.setting)
        for buffer in before.values():
            while buffer:
                item = buffer.take()
                self.buffers[item.work["lane"]].put(item, item.size_bytes)

    def waiting(self) -> list[str]:
        """Lanes with something to start."""
        return [lane for lane, buffer in self.buffers.items() if buffer]

    def choose(self, now_ms: int) -> str | None:
        """The lane that starts next; None if none may."""
        return self.lanes.choose(self.waiting(), now_ms, resumes=self.buffers["batch"].resumes)

    def start(self, item: Item, now_ms: int) -> float:
        """Take a slot; the charge for it, to be given back to `finish`."""
        lane = item.work["lane"]
        if lane == "batch":
            self.batch[item] = None
        return self.lanes.start(lane, now_ms)

    def finish(self, item: Item, charge_ms: float, took_ms: float, now_ms: int, *, ended: bool) -> None:
        """Give the slot back; not `ended` is what was stopped."""
        lane, seen = item.work["lane"], item.seen
        self.batch.pop(item, None)
        self.lanes.finish(lane, charge_ms, took_ms, now_ms, whole=ended and not item.stops)
        self.repeated_tokens += seen.repeated
        seen.repeated = 0
        if lane == "interactive" and seen.first_token_at:
            self.lanes.first_token(seen.first_token_at - item.arrived_at, now_ms)

    def pause_surplus(self, now_ms: int) -> bool:
        """Have batch work pause that is in the way of interactive callers, the least advanced first.

        Returns whether to do so again in a moment: some of it has only just begun.
        """
        surplus = self.lanes.surplus(self.waiting(), now_ms)
        if surplus:
            surplus = max(0, surplus - sum(item.seen.pausing for item in self.batch))
            patient = sorted((i for i in self.batch if i.patient), key=lambda i: i.seen.counts.output_tokens)
            for item in patient[:surplus]:
                item.pause()
            return surplus > len(patient) and any(not (i.stoppable or i.seen.pausing) for i in self.batch)
        return False

    def lease(self) -> Engine:
        """The engine, for one job; give it back with `release`. Raises Fault if it cannot be opened."""
        if self._engine is None:
            self._engine = open_engine(self.setting)
        self._users[self._engine] = self._users.get(self._engine, 0) + 1
        return self._engine

    def release(self, engine: Engine) -> None:
        """End a lease; a replaced engine is closed after its last."""
        self._users[engine] -= 1
        if not self._users[engine] and engine is not self._engine:
            del self._users[engine]
            self._spawn(engine.close())

    async def close(self) -> None:
        """Close every engine."""
        self._retire()
        for engine in list(self._users):
            self._spawn(engine.close())
        if self._tasks:
            await asyncio.wait(self._tasks)

    def retire(self) -> None:
        """The pool is gone from the configuration: what waits starts no more, what runs ends."""
        self.lanes.slots = 0
        self._retire()

    def _retire(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None and not self._users.get(engine):
            self._users.pop(engine, None)
            self._spawn(engine.close())

    async def _warm(self) -> None:
        try:
            engine = self.lease()
        except Fault as fault:
            log.error("pool %s cannot be served: %s", self.setting.name, fault)
            return
        try:
            await engine.warm()
        except Fault as fault:
            log.error("pool %s cannot be served: %s", self.setting.name, fault)
        finally:
            self.release(engine)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _buffers(setting: Setting) -> dict[str, Buffer[Item]]:
    """A queue for each lane; one for all where nothing is protected."""
    if setting.pool.protection == "none":
        return dict.fromkeys(LANES, Buffer[Item](None, BATCH_HIGH, BATCH_LOW))
    return {**{lane: Buffer[Item]() for lane in LANES}, "batch": Buffer(Turns(claim), BATCH_HIGH, BATCH_LOW)}


def settings(document: ConfigDocument) -> dict[str, Setting]:
    """What each pool's engine is made from; its context fits the largest model routed to it."""
    needs: dict[str, int] = {}
    for model in document.models.values():
        for pool in model.route:
            need = (model.max_input_tokens or DEFAULT_INPUT) + (model.max_output_tokens or DEFAULT_OUTPUT)
            needs[pool] = max(needs.get(pool, 0), need)
    return {
        name: Setting(name, pool, needs.get(name, DEFAULT_INPUT + DEFAULT_OUTPUT))
        for name, pool in document.pools.items()
    }
