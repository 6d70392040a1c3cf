"""Work that kills its worker: ended after a bounded number of deaths, and nobody else is ever taken for it."""

from __future__ import annotations

import asyncio
import random
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers import watermark
from workers.answer import Progress
from workers.quarantine import Quarantine
from workers.suspicion import AHEAD, DEATHS, KEPT, Suspicion, parse
from workers.watermark import Watermark


class Death(Exception):
    """The process is gone."""


class World:
    """One partition and the workers that follow each other on it. What is not committed dies with them."""

    def __init__(self, seed: int, records: int, poison: set[int], slots: int, kills: int = 0) -> None:
        self.chance = random.Random(seed)
        self.poison, self.slots, self.kills = poison, slots, kills
        self.records = records
        self.committed: tuple[int, str] = (0, "")
        self.answered: set[int] = set()
        self.buried: set[int] = set()
        self.deaths = 0

    def run(self) -> None:
        """Workers until all is done."""
        while self.committed[0] < self.records:
            try:
                self._live(f"w{self.deaths}", now_ms=1_000 * self.deaths)
            except Death:
                self.deaths += 1
                assert self.deaths < 200, "it does not end"

    def _live(self, owner: str, now_ms: int) -> None:
        low, metadata = self.committed
        mark = Watermark(low, *watermark.parse(low, metadata))
        mark.open(owner, now_ms)
        self.committed = mark.commit()
        waiting = [o for o in range(low, self.records) if mark.take(o)]
        running: list[int] = []
        while waiting or running:
            if self.kills and self.chance.random() < 0.1:
                self.kills -= 1
                raise Death
            what = self.chance.choice(["start", "finish", "commit"])
            if what == "commit":
                self.committed = mark.commit()
            elif what == "finish" and running:
                self._finish(mark, running.pop(self.chance.randrange(len(running))))
            elif what == "start" and waiting and len(running) < self.slots:
                self._start(mark, waiting, running)
        mark.close()
        self.committed = mark.commit()

    def _start(self, mark: Watermark, waiting: list[int], running: list[int]) -> None:
        offset, alone = waiting[0], mark.suspicion.deaths(waiting[0])
        if alone >= DEATHS:
            self.buried.add(waiting.pop(0))
            mark.finish(offset)
        elif not (alone and running):
            waiting.pop(0)
            if mark.suspicion.suspects(offset, at_ms=0):
                mark.start(offset)
                self.committed = mark.commit()
            if offset in self.poison and self.chance.random() < 0.5:
                raise Death
            if alone:
                self._finish(mark, offset)
                self.committed = mark.commit()
            else:
                running.append(offset)

    def _finish(self, mark: Watermark, offset: int) -> None:
        if offset in self.poison:
            raise Death
        self.answered.add(offset)
        mark.finish(offset)


@given(st.integers(), st.integers(1, 40), st.sets(st.integers(0, 39), max_size=4), st.integers(1, 8))
def test_poison_ends_after_few_deaths_and_its_neighbours_are_answered(
    seed: int, records: int, poison: set[int], slots: int
) -> None:
    world = World(seed, records, {p for p in poison if p < records}, slots)
    world.run()
    assert world.buried == world.poison and world.answered == set(range(records)) - world.poison
    assert world.deaths <= 1 + DEATHS * len(world.poison)


@given(st.integers(), st.integers(1, 30), st.integers(1, 6), st.integers(1, DEATHS))
def test_workers_killed_from_outside_make_nobody_poison(seed: int, records: int, slots: int, kills: int) -> None:
    world = World(seed, records, set(), slots, kills)
    world.run()
    assert not world.buried and world.answered == set(range(records))


def test_nothing_is_suspect_while_all_leave_in_order() -> None:
    mark = Watermark(0)
    mark.take(0)
    for owner in ("a", "b", "b"):
        mark.open(owner, now_ms=5)
        assert not mark.suspicion.suspects(0, at_ms=0)
        mark.start(0)
        mark.close()
    mark.open("b", now_ms=5)
    mark.open("b", now_ms=6)  # Its own session was lost, which killed nobody.
    assert not mark.suspicion.suspects(0, at_ms=0)


def test_only_what_was_there_at_a_death_is_suspect() -> None:
    suspicion = Suspicion("dead")
    suspicion.open("next", low=100, now_ms=5_000)
    assert suspicion.suspects(100, 5_000) and suspicion.suspects(100 + AHEAD - 1, 4_000)
    assert not suspicion.suspects(100, 5_001) and not suspicion.suspects(100 + AHEAD, 4_000)
    suspicion.open("third", low=100, now_ms=9_000)
    assert suspicion.suspects(100 + 2 * AHEAD - 1, 9_000)
    assert parse(99 + 2 * AHEAD, suspicion.text(99 + 2 * AHEAD)).suspects(99 + 2 * AHEAD, 0)
    assert not parse(100 + 2 * AHEAD, suspicion.text(100 + 2 * AHEAD)).suspects(100 + 2 * AHEAD, 0)


@given(st.dictionaries(st.integers(0, 5_000), st.integers(0, DEATHS), max_size=30), st.integers(0, 100))
def test_suspicion_survives_its_text(counts: dict[int, int], low: int) -> None:
    suspicion = Suspicion("a")
    for _ in range(DEATHS):
        for offset in (o for o, times in counts.items() if suspicion.deaths(o) < times):
            suspicion.start(low + offset)
        suspicion.open(f"{suspicion.owner}a", low, 1)
    again = parse(low, suspicion.text(low))
    assert {o: again.deaths(low + o) for o in counts} == {o: suspicion.deaths(low + o) for o in counts}
    assert again.owner == suspicion.owner and again.text(low) == suspicion.text(low)


def test_metadata_fits_with_all_that_it_may_hold() -> None:
    mark = Watermark(10**12)
    for n in range(30_000):
        mark.take(10**12 + n)
        if n % 2:
            mark.finish(10**12 + n)
        elif n < 4 * KEPT:
            mark.start(10**12 + n)
    for owner in ("deadbeef", "beefdead"):
        mark.open(owner, 1_800_000_000_000)
        for n in range(0, 4 * KEPT, 2):
            mark.start(10**12 + n)
        low, metadata = mark.commit()
        assert len(metadata) <= 4_096
    skip, suspicion = watermark.parse(low, metadata)
    assert len(skip) >= 5_000 and suspicion.deaths(low) == 1


def test_a_suspect_of_a_death_runs_alone_and_on_record() -> None:
    log: list[str] = []

    async def record() -> None:
        await asyncio.sleep(0)
        log.append("recorded")
        mark.commit()

    def item(offset: int, deaths: int, suspect: bool = True) -> Any:
        assert mark.take(offset)
        return _Item(marks=[(mark, offset)], deaths=deaths, suspect=object() if suspect else None)

    async def attempt(quarantine: Quarantine, one: Any, name: str) -> None:
        await quarantine.enter(one)
        log.append(f"{name} starts")
        for _ in range(5):
            await asyncio.sleep(0)
        log.append(f"{name} ends")
        mark.finish(one.marks[0][1])
        await quarantine.leave(one)

    async def case() -> None:
        quarantine = Quarantine(record)
        items = [item(0, 0, suspect=False), item(1, 0), item(2, 1), item(3, 0, suspect=False)]
        names = ["free", "suspect", "alone", "later"]
        await asyncio.gather(*(attempt(quarantine, i, n) for i, n in zip(items, names, strict=True)))

    mark = Watermark(0)
    asyncio.run(case())
    at = log.index("alone starts")
    assert {"free ends", "suspect ends"} <= set(log[:at]) and log[at - 1] == "recorded"
    assert log[at + 1 : at + 4] == ["alone ends", "recorded", "later starts"]
    assert "recorded" in log[: log.index("suspect starts")]


def test_suspects_that_start_together_share_a_record() -> None:
    records = 0

    async def record() -> None:
        nonlocal records
        records += 1
        await asyncio.sleep(0)

    async def case() -> None:
        quarantine, mark = Quarantine(record), Watermark(0)
        items = [_Item(marks=[(mark, n)], deaths=0, suspect=object()) for n in range(20) if mark.take(n)]
        await asyncio.gather(*map(quarantine.enter, items))
        assert records == 2  # The first one's own, and one for all that came meanwhile.
        assert all(f"{n}.0r" in mark.commit()[1] for n in range(20))

    asyncio.run(case())


def test_who_waits_in_quarantine_can_be_stopped() -> None:
    async def record() -> None:
        await asyncio.sleep(0)

    async def case() -> None:
        quarantine, mark = Quarantine(record), Watermark(0)
        mark.take(0)
        runs, waits = (_Item(marks=[(mark, 0)], deaths=d, suspect=None) for d in (0, 1))
        await quarantine.enter(runs)
        task = asyncio.create_task(quarantine.enter(waits))
        while not waits.stoppable:
            await asyncio.sleep(0)
        waits.seen.stop_reason = "cancelled"
        task.cancel()
        await task
        await quarantine.leave(waits)
        # Its turn has gone to the next one.
        await asyncio.wait_for(quarantine.enter(later := _Item(marks=[(mark, 0)], deaths=0, suspect=None)), 5)
        await quarantine.leave(later)
        await quarantine.leave(runs)

    asyncio.run(case())


class _Item(SimpleNamespace):
    """Of an item, what a quarantine looks at."""

    __hash__ = object.__hash__

    def __init__(self, **fields: Any) -> None:
        super().__init__(stoppable=False, seen=Progress(), **fields)
