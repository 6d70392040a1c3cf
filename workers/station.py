"""One pool in this worker: its lanes, what waits in them, and its engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import Message

from schemas.config import ConfigDocument
from schemas.records import Work
from schemas.topics import LANES
from workers import share
from workers.answer import Progress
from workers.buffer import Buffer
from workers.engines import Engine, Setting, open_engine
from workers.lanes import Lanes
from workers.outcome import Fault
from workers.signals import Signals
from workers.turns import Claim, Turns
from workers.watermark import Watermark

log = logging.getLogger(__name__)

# Room in the context for a model that names no limit, in tokens: half of what small models are trained on.
DEFAULT_INPUT: Final = 2_048
DEFAULT_OUTPUT: Final = 2_048
# Batch lines are put in order among those that were read, so more of them are: several tenants', within 32 MiB.
BATCH_HIGH: Final = 1_024
BATCH_LOW: Final = 512
# Bytes of a prompt that make a token, as a rule; it only weighs tenants against each other.
TOKEN_BYTES: Final = 4


@dataclass(slots=True, eq=False)
class Item:
    """A piece of work from its reading to its completion. `marks` are the places in the log that it settles.

    `stoppable` says that its task may be cancelled. `suspect` is its original record, if a worker may have died of it;
    `deaths` are those at which it was running.
    """

    work: Work
    identity: tuple[str, str, int]
    station: Station
    marks: list[tuple[Watermark, int]]
    seen: Progress = field(default_factory=Progress)
    task: asyncio.Task[None] | None = None
    stoppable: bool = False
    suspect: Message | None = None
    deaths: int = 0


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
        self.lanes = Lanes(0)
        self.buffers: dict[str, Buffer[Item]] = {lane: Buffer() for lane in LANES}
        self.buffers["batch"] = Buffer(Turns(claim), BATCH_HIGH, BATCH_LOW)
        self.signals = Signals()
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
        self.setting = setting
        self._retire()
        self.assign(self.partitions)

    def waiting(self) -> list[str]:
        """Lanes with something to start."""
        return [lane for lane, buffer in self.buffers.items() if buffer]

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
