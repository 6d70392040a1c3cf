"""Steps that need each other, each run as soon as what it needs is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass


class Abandoned(Exception):
    """A step did not run, as another one failed."""


@dataclass(frozen=True, slots=True)
class Step:
    """`run` gets an event that is set when the plan has failed and waiting is pointless."""

    name: str
    run: Callable[[threading.Event], None]
    needs: tuple[str, ...] = ()


def carry_out(steps: Sequence[Step], done: Callable[[str], None]) -> None:
    """Run all steps, calling `done` after each; raises what the first failing step raised."""
    failed = threading.Event()
    futures: dict[str, Future[None]] = {}

    def run(step: Step) -> None:
        for need in step.needs:
            futures[need].result()
        if failed.is_set():
            raise Abandoned(step.name)
        step.run(failed)
        done(step.name)

    # Every step has a thread of its own, so one that waits for another never keeps it from running.
    with ThreadPoolExecutor(max_workers=len(steps)) as pool:
        for step in steps:
            futures[step.name] = pool.submit(run, step)
        try:
            wait(futures.values(), return_when=FIRST_EXCEPTION)
        finally:  # also when the operator interrupts
            failed.set()
    errors = [error for future in futures.values() if (error := future.exception())]
    for error in errors:
        if not isinstance(error, Abandoned):
            raise error
