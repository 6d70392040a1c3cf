"""Circuits and canaries over simulated hours, and planted faults that the oracle must see."""

import pytest

from streams import steering
from tests.simulation.steering_world import MIN_REQUESTS, World, document

SEEDS = 8


def outages(seed: int, controllers: int = 1) -> World:
    """Pools die in every way and come back; controllers die in between."""
    w = World(seed, controllers)
    w.run(70)
    for i, how in enumerate(["dead", "hung", "turns", "flaky", "half", "gone"]):
        pool = "p3" if i == 4 else "p1"
        w.set(pool, how)
        # What hung is mended while attempts of the trial still hang, in some of the runs.
        w.run(w.random.randrange(36, 44) if how == "hung" else w.random.randrange(100, 240))
        if (seed + i) % 3 == 0:
            w.restart()
        if (seed + i) % 3 == 1:
            w.configure(document(("acme", "globex", f"newcomer-{i}")))
            w.check()
        if how in ("turns", "gone"):
            assert w.tries[pool] > 0, f"a pool that is {how} was left in use"
        w.set(pool, "well")
        w.run(180)
    return w


def rollouts(seed: int) -> World:
    """A canary that is well, one that fails, one that is slow; and an outage of everything."""
    w = World(seed)
    w.run(120)
    assert w.taken_back == [], "it was well"
    for how in ("half", "slow", "dead"):
        w.set("p3", how)
        began = w.now
        w.run(30)
        assert len(w.taken_back) == 1, "it was taken back, and once"
        assert {s.model: s.weight for s in w.live.models["chat"].split} == {"good": 70, "new": 0}
        assert w.taken_back[0] - began < 45_000, "a minute's window holds what was well for a while"
        w.set("p3", "well")
        w.running.clear()
        w.taken_back.clear()
        w.configure(document())  # the operator, when it is mended
        w.run(90)
        assert w.taken_back == [], "what failed before was counted again"
    first_few(w)
    common_cause(w)
    return w


def first_few(w: World) -> None:
    """Fewer than it takes to judge, before and after a restart."""
    w.configure(document(("acme",)))
    w.run(130, only="good")
    too_large = steering.Ended("new", "", "p3", 0, "failed", "answer_too_large", 1)
    for _ in range(MIN_REQUESTS - 1):
        w.end(too_large, w.now, "acme")
    w.restart()
    assert w.taken_back == [], "so few say nothing"
    w.end(too_large, w.now, "acme")
    assert len(w.taken_back) == 1, "a restart forgot what it had seen"
    w.taken_back.clear()
    w.run(130, only="good")
    w.configure(document())


def common_cause(w: World) -> None:
    """Everything is as bad as the canary."""
    for pool in w.state:
        w.set(pool, "half")
    w.running.clear()
    w.run(20, only="good")
    w.run(60)
    assert w.taken_back == [], "it was no worse than the rest"
    for pool in w.state:
        w.set(pool, "well")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_circuits_hold_what_they_promise(seed: int) -> None:
    outages(seed)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_canaries_go_when_they_fail_and_only_then(seed: int) -> None:
    rollouts(seed)


@pytest.mark.parametrize("seed", range(3))
def test_two_controllers_do_no_harm(seed: int) -> None:
    outages(seed, controllers=2)


def test_the_same_records_give_the_same_verdicts() -> None:
    one, two = outages(7), outages(7)
    assert one.journal == two.journal
    assert len(one.journal) > 10_000
