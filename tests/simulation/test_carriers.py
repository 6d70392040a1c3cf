"""What carries decisions out: the memory engine and the Flink operator write the same bytes, whatever breaks."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from schemas import topics
from streams import carrier
from streams.memory import MemoryEngine
from tests.simulation.flink import Backend as FlinkBackend
from tests.simulation.flink import Context, FlinkEngine, new_operator
from tests.simulation.journal import PARTITIONS
from tests.simulation.site import ROWS, EngineClass, Entry
from tests.simulation.world import CODEC, World

Log = dict[str, list[Entry]]


def recorded(seed: int, steps: int, engine: EngineClass = MemoryEngine) -> World:
    """A run that kept its journal and what was decided."""
    world = World(seed, engine, remember=True).run(steps)
    world.journal.pass_time(3_000)
    world.journal.tick()
    world.site.read(world.site.lag, world.chance)
    return world


def again(world: World, engine: EngineClass, chance: random.Random, *, ticks: float = 1.0) -> Log:
    """Decide the journal of a world anew: partitions in another order, only some of the ticks, no crash."""
    log: defaultdict[str, list[Entry]] = defaultdict(list)
    e = engine(CODEC, PARTITIONS, lambda tenant, *entry: log[tenant].append(entry))
    places = [0] * PARTITIONS
    while behind := [n for n, p in enumerate(world.journal.partitions) if places[n] < p.end]:
        n = chance.choice(behind)
        for _ in range(chance.randrange(1, 200)):
            if places[n] == world.journal.partitions[n].end:
                break
            entry = world.journal.partitions[n].at(places[n])
            places[n] += 1
            last = places[n] == world.journal.partitions[n].end
            if last or entry.kind != "Tick" or chance.random() < ticks:
                e.append(entry.value, entry.at_ms)
    return dict(log)


def same(one: Log, other: Log) -> None:
    assert one.keys() == other.keys()
    for tenant, entries in one.items():
        for n, (a, b) in enumerate(zip(entries, other[tenant], strict=False)):
            assert a == b, f"{tenant}, record {n}"
        assert len(entries) == len(other[tenant]), tenant


@pytest.mark.parametrize("seed", range(3))
def test_the_flink_operator_writes_the_bytes_of_the_memory_engine(seed):
    world = recorded(seed, 1_500)
    same(world.site.log, again(world, FlinkEngine, random.Random(seed)))


@pytest.mark.parametrize("seed", range(3))
def test_the_memory_engine_writes_the_bytes_of_the_flink_operator_that_crashed(seed):
    world = recorded(seed, 1_000, FlinkEngine)
    assert world.stats["crash"] > 0
    same(world.site.log, again(world, MemoryEngine, random.Random(seed)))


@pytest.mark.parametrize("seed", range(6))
def test_how_time_is_cut_and_partitions_are_mixed_does_not_matter(seed):
    world = recorded(seed, 1_000)
    for ticks in (1.0, 0.3, 0.0):
        same(world.site.log, again(world, MemoryEngine, random.Random(seed), ticks=ticks))


def test_bytes_that_are_no_record_become_a_dead_letter_and_stop_nothing():
    operator = new_operator()
    operator.open(Context(FlinkBackend()))  # type: ignore[arg-type]
    ((topic, _, value),) = operator.process_element(b"\x07no record", Context(FlinkBackend()))
    assert topic == topics.DEAD_LETTERS and CODEC.decode(value)[1]["value"] == b"\x07no record"


def test_rows_go_to_the_exactly_once_sink_and_nothing_else_does():
    world = World(1, FlinkEngine).run(300)
    rows = world.site.engine._rows  # type: ignore[attr-defined]
    assert {t for t, n in rows.items() if n} == set(ROWS) & world.site.firsts.keys() > {"usage", "responses"}
    assert carrier.LEDGER_ROWS.tag_id == "exactly-once"
