"""MILLRACE_SEEDS seeds of 10,000 steps with faults: nothing lost, doubled, overspent or refused wrongly. A failure says
how to repeat it: `python -m tests.simulation SEED`."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

import pytest

from tests.simulation.world import World

# Two hundred take eleven minutes of two cores.
SEEDS = int(os.environ.get("MILLRACE_SEEDS", "50"))
STEPS = 10_000
# What all runs together must have met, else they have tried too little.
MET = {
    "completed/miss", "completed/hit", "completed/follower", "refused/none", "blocked/none", "blocked/miss",
    "blocked/follower", "cancelled/none", "expired/none", "failed/none", "interrupted/none", "crash",
}  # fmt: skip


def one(seed: int) -> tuple[int, Counter[str], str]:
    """(seed, what the run met, what went wrong)."""
    try:
        return seed, World(seed).run(STEPS).stats, ""
    except Exception as error:
        return seed, Counter(), "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])


@pytest.mark.timeout(3_000)
def test_nothing_is_lost_doubled_overspent_or_refused_wrongly(capsys: pytest.CaptureFixture[str]):
    began, met, faults = time.monotonic(), Counter[str](), []
    with ProcessPoolExecutor(os.cpu_count() or 2, multiprocessing.get_context("spawn")) as pool:
        for done, future in enumerate(as_completed([pool.submit(one, seed) for seed in range(SEEDS)]), start=1):
            seed, stats, fault = future.result()
            met += stats
            if fault:
                faults.append(f"seed {seed}: {fault}")
            if done % 20 == 0 or fault:
                with capsys.disabled():
                    took = time.monotonic() - began
                    print(f"\n{done} of {SEEDS} seeds, {STEPS} steps each, {took:.0f} s {fault}", flush=True)
    assert not faults, "\n".join(faults)
    assert met.keys() >= MET, f"never met: {MET - met.keys()}"
    assert min(met[kind] for kind in MET) > SEEDS // 4, met
