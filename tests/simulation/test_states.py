"""Properties of `step` and `advance` on states from the middle of runs: what happened in between does not matter."""

from __future__ import annotations

import copy
import random
from collections import Counter
from typing import Any

import pytest

from streams.dispatch import work_topic
from streams.memory import MemoryEngine
from streams.state import CODEC as STATE
from streams.state import OPEN
from tests.simulation.policies import TENANTS
from tests.simulation.world import CODEC, World

SEEDS = range(8)
STEPS = 400
# What is due in the states: seconds, minutes, a whole window, everything.
SPANS_MS = (999, 1_000, 1_500, 30_000, 61_000, 600_000, 3_600_000)


def fork(world: World) -> MemoryEngine:
    """An engine with the same state that knows nothing else, as after a restore."""
    engine = MemoryEngine(CODEC)
    source: Any = world.site.engine
    for name, stores in source.stores.items():
        for field in ("policy", "ledger", "agenda"):
            value = getattr(stores, field).get()
            if value is not None:
                getattr(engine.stores[name], field).put(value)
        for field in ("requests", "cached", "deferred", "pages"):
            getattr(engine.stores[name], field).values.update(getattr(stores, field).values)
    return engine


def state(engine: MemoryEngine) -> dict[str, Any]:
    """All bytes it keeps."""
    return {
        name: [
            *(copy.copy(getattr(stores, field).values) for field in ("requests", "cached", "deferred", "pages")),
            *(getattr(stores, field).get() for field in ("policy", "ledger", "agenda")),
        ]
        for name, stores in engine.stores.items()
    }


def middle(seed: int) -> World:
    world = World(seed, remember=True)
    for _ in range(STEPS):
        world.step()
    while world.site.lag:  # What is decided on the way may come back as a record of the journal.
        world.site.read(world.site.lag, world.chance)
    return world


def latest(world: World) -> int:
    return max(p.last_ms for p in world.journal.partitions)


@pytest.mark.parametrize("seed", SEEDS)
def test_time_may_pass_in_any_number_of_pieces(seed):
    world, chance = middle(seed), random.Random(seed)
    for span in SPANS_MS:
        end = latest(world) + span
        whole, pieces = fork(world), fork(world)
        whole.advance(end)
        for cut in sorted(chance.randrange(latest(world), end + 1) for _ in range(5)):
            pieces.advance(cut)
            if chance.random() < 0.5:
                pieces.restart()
        pieces.advance(end)
        pieces.advance(end)
        assert state(whole) == state(pieces), f"state after {span} ms"
        for topic in whole.topics.keys() | pieces.topics.keys():
            assert sorted(whole.topics[topic]) == sorted(pieces.topics[topic]), f"{topic} after {span} ms"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_record_that_is_repeated_changes_no_money_and_no_outcome(seed):
    world = middle(seed)
    engine, now = fork(world), latest(world) + 1
    engine.advance(now)
    entries = [p.at(n) for p in world.journal.partitions for n in range(p.end)]
    again = [e for e in entries if e.kind in ("Request", "Completion", "Cancellation", "Started", "Credit", "Circuit")]
    assert len(again) > 100
    # A circuit and a word that work has begun are facts of their moment; of these only the last one may be said again.
    for entry in (e for e in again if e.kind not in ("Circuit", "Started")):
        before = {name: stores.ledger.get() for name, stores in engine.stores.items()}
        marks = {topic: len(records) for topic, records in engine.topics.items()}
        engine.step(entry.kind, entry.record, now)
        wrote = {topic for topic, records in engine.topics.items() if len(records) > marks.get(topic, 0)}
        assert {topic for topic in wrote if not topic.startswith("replies.")} == set(), (entry.kind, entry.record)
        after = {name: stores.ledger.get() for name, stores in engine.stores.items()}
        assert before == after, (entry.kind, entry.record)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_tenant_decides_the_same_whatever_others_there_are(seed):
    world = middle(seed)
    for tenant in TENANTS:
        alone = MemoryEngine(CODEC)
        for partition in world.journal.partitions:
            for entry in (partition.at(n) for n in range(partition.end)):
                if entry.kind != "Tick" and entry.record["tenant"] == tenant:
                    alone.step(entry.kind, entry.record, entry.at_ms)
        alone.advance(latest(world))
        together = fork(world)
        together.advance(latest(world))
        assert state(alone)[tenant] == state(together)[tenant]


def test_what_is_counted_by_partition_is_what_is_open_there():
    seeds = range(24)
    assert sum(counted(fork(middle(seed))) for seed in seeds) > len(seeds), "hardly any long prompt is open"


def counted(engine: MemoryEngine) -> int:
    """Checks the counts of an engine's tenants; how many places have open work with a long prompt."""
    seen = 0
    for name, stores in engine.stores.items():
        places: Counter[tuple[str, int]] = Counter()
        for data in stores.requests.values.values():
            if data[:1] == OPEN:
                o = STATE.decode("Open", data[1:])
                if o["place"]:
                    places[work_topic(o["route"][o["step"]], o["lane"]), o["place"] - 1] += 1
        loads = engine.tenant(name).loads.fields()["loads"]
        assert {(x["topic"], p): n for x in loads for p, n in enumerate(x["open"]) if n} == places
        seen += len(places)
    return seen
