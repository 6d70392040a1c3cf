"""Seeded runs with crashes, duplicates, long silences and cancellations; a failure prints its seed."""

import pytest

from tests.simulation.world import World

SEEDS = range(24)
STEPS = 600


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_lost_doubled_or_overspent(seed):
    world = World(seed)
    try:
        world.run(STEPS)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    kinds = {(u["status"], u["cache"]) for u in world.engine.read("usage")}
    assert {("completed", "miss"), ("refused", "none")} <= kinds, f"seed {seed}: the run tried too little"


@pytest.mark.parametrize("seed", range(6))
def test_how_time_is_cut_does_not_matter(seed):
    """advance(advance(s, a), b) == advance(s, b): ticks more or less between records change nothing."""
    world = World(seed)
    for _ in range(300):
        world.step()
    runs = []
    for cuts in (1, 7):
        other = World(seed)
        for i, (kind, record, at) in enumerate(world.journal):
            if kind == "Tick" and i % cuts:
                continue
            other.engine.step(kind, record, at)
        other.engine.step("Tick", {"tenant": "", "partition": 0}, world.now + 1_000)
        runs.append({n: sorted(r) for n, r in other.engine.topics.items() if r})
    assert runs[0] == runs[1], f"seed {seed}"
