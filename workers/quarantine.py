"""Who may run beside whom: what may have killed a worker starts on record, and what was at a death runs alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from workers.item import Item


class Quarantine:
    """Work enters one by one, in order. `record` commits what has changed and returns when Kafka has it."""

    def __init__(self, record: Callable[[], Awaitable[None]]) -> None:
        self._record = record
        self._recording = asyncio.Lock()
        self._noted = self._recorded = 0
        self._turn = asyncio.Lock()
        self._left = asyncio.Event()
        self._inside: dict[Item, bool] = {}

    async def enter(self, item: Item) -> None:
        """Wait until it may run: at once, unless something runs alone or wants to. Returns early if it is stopped."""
        item.stoppable = True
        try:
            await self._room(item)
            if item.suspect is not None:
                await self._note(item)
        except asyncio.CancelledError:
            if item.seen.stop_reason is None:
                raise
            cast("asyncio.Task[Any]", asyncio.current_task()).uncancel()
        finally:
            item.stoppable = False

    async def _room(self, item: Item) -> None:
        alone = item.deaths > 0
        await self._turn.acquire()
        try:
            while alone and self._inside:
                self._left.clear()
                await self._left.wait()
            self._inside[item] = alone
        finally:
            if self._inside.get(item) is not True:
                self._turn.release()

    async def _note(self, item: Item) -> None:
        mark, offset = item.marks[0]
        mark.start(offset)
        self._noted += 1
        mine = self._noted
        async with self._recording:
            if self._recorded < mine:  # Else it was recorded with what another one waited for.
                latest = self._noted
                await self._record()
                self._recorded = latest

    async def leave(self, item: Item) -> None:
        """It runs no more; what ran alone is taken from the record first, or the next death would be its own, too."""
        if item not in self._inside:
            return
        try:
            if self._inside[item]:
                await self._record()
        finally:
            self._left.set()
            if self._inside.pop(item):
                self._turn.release()
