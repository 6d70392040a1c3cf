"""Runs the simulation of one seed: `python -m tests.simulation SEED [STEPS]`."""

import sys
import time

from tests.simulation.world import World, show

if __name__ == "__main__":
    seed, steps = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10_000
    began = time.process_time()
    world = World(seed).run(steps)
    spent = time.process_time() - began
    print(f"seed {seed}: {steps} steps, 0 violations, {spent / steps * 1e6:.0f} µs a step\n{show(world)}")
