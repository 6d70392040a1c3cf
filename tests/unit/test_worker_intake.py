"""The thread that reads, over a consumer that is never empty."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from workers import intake
from workers.intake import BATCH, Intake


class Endless:
    """A consumer with one more record, always; `ahead` is set when far more were read than one batch."""

    def __init__(self, _settings: Any) -> None:
        self.polled = 0
        self.ahead = threading.Event()

    def poll(self, _timeout: float) -> Endless:
        self.polled += 1
        if self.polled > 2 * BATCH:
            self.ahead.set()
        return self

    def error(self) -> None:
        return None

    def close(self) -> None:
        pass


class Busy:
    """An event loop that is at the first batch for longer than the thread takes to read another two."""

    def __init__(self) -> None:
        self.first: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.batches = 0
        self.more = asyncio.Event()
        self.consumer: Any = None

    def take(self, messages: list[Any]) -> None:
        assert len(messages) == BATCH
        self.batches += 1
        if not self.first.done():
            self.first.set_result(self.consumer.ahead.wait(0.3))
        elif self.batches > 3:
            self.more.set()


def test_nothing_is_read_ahead_of_a_busy_event_loop_and_reading_goes_on_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "Consumer", Endless)

    async def run() -> None:
        busy = Busy()
        one = Intake("nowhere", "worker-1", busy)  # type: ignore[arg-type]
        busy.consumer = one._consumer
        try:
            assert not await asyncio.wait_for(busy.first, 10)
            await asyncio.wait_for(busy.more.wait(), 10)
        finally:
            await one.close([])

    asyncio.run(run())
