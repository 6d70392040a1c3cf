"""The benchmarks the README quotes: `make bench`, or `python -m tests.bench admission latency cpu batch prefix`.

They run against the stack that is up, change nothing in its configuration, and send bounded loads over the loopback
interface. A target that is missed is reported, not an error; what could not be measured is.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

import openai
from confluent_kafka import KafkaException

from tests.bench import (
    admission,
    answers,
    batch,
    connect,
    cpu,
    latency,
    lines,
    log,
    meter,
    million,
    neighbours,
    prefix,
    producers,
    relay,
    validation,
    waves,
    worker,
)
from tests.bench.driver import Stack, find, loads, say
from tests.bench.report import Result, Row, Unmeasured, aligned, document, machine, markdown

Measure = Callable[[Stack], Awaitable[Result]]
BENCHMARKS: Final[dict[str, Measure]] = {
    "admission": admission.measure,
    "log": log.measure,
    "answers": answers.measure,
    "latency": latency.measure,
    "cpu": cpu.measure,
    "batch": batch.measure,
    "waves": waves.measure,
    "prefix": prefix.measure,
    "worker": worker.measure,
    "validation": validation.measure,
    "lines": lines.measure,
    "connect": connect.measure,
    "producers": producers.measure,
    "relay": relay.measure,
    "million": million.measure,
    "neighbours": neighbours.measure,
}
LIMIT_S: Final = 240.0
LIMITS_S: Final = {
    "answers": answers.LIMIT_S,
    "batch": batch.LIMIT_S,
    "connect": connect.LIMIT_S,
    "waves": waves.LIMIT_S,
    "worker": worker.LIMIT_S,
    "million": million.limit_s(),
    "neighbours": neighbours.limit_s(),
}
# What the system itself uses at rest; with more than this the figures are not of a quiet machine, and say so.
QUIET_CORES: Final = 0.2
UP_NOTE: Final = "`make up` on a warm machine (target 60 s) is timed by hand: time make up"


async def run(stack: Stack, name: str) -> Result:
    """One benchmark; if it cannot be carried out, a row that says why."""
    say(f"{name}: begins")
    began, before = time.monotonic(), loads()
    others = 0.0
    try:
        start = meter.sample(stack)
        result = await asyncio.wait_for(BENCHMARKS[name](stack), LIMITS_S.get(name, LIMIT_S))
        # What a process had used that was killed is not known any more.
        others = 0.0 if result.killed else meter.spent(start, meter.sample(stack)).other_cores
    except TimeoutError:
        result = Result([Row(name, None, note="did not end in time")])
    except (Unmeasured, KafkaException, openai.OpenAIError) as error:
        result = Result([Row(name, None, note=f"{error}".splitlines()[0])])
    if others > QUIET_CORES:
        note = f"others kept {others:.1f} cores busy meanwhile"
        result.rows = [replace(row, note=f"{row.note}; {note}") for row in result.rows]
    result.details |= {"took_s": round(time.monotonic() - began, 1), "other_cores": round(others, 2)}
    result.details |= {"load_before": before, "load_after": loads()}
    for row in result.rows:
        say("  ".join(row.cells()))
    return result


def write(stack: Stack, results: dict[str, Result], about: dict[str, Any]) -> None:
    """Print the table, and keep it and everything else under MILLRACE_HOME/bench."""
    at = time.strftime("%Y-%m-%dT%H-%M-%SZ", time.gmtime())
    rows = [row for result in results.values() for row in result.rows]
    folder = stack.addresses.home / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{at}.json").write_text(json.dumps(document(at, about, results), indent=1) + "\n")
    heading = f"{about['processor']}, {about['cores']} cores; load average before: {about['load_before'][0]:.1f}"
    (folder / f"{at}.md").write_text(f"{heading}\n\n{markdown(rows)}\n")
    print(f"\n{heading}\n\n{aligned(rows)}\n\n{UP_NOTE}\nwritten to {folder}/{at}.json and .md")


def main(names: list[str]) -> int:
    """Run the benchmarks named, or all; 0 if each was measured, 1 otherwise, 2 for a name that is none."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}: there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    try:
        stack = find(os.environ)
    except Unmeasured as error:
        print(error, file=sys.stderr)
        return 1
    about = machine() | {"load_before": loads()}
    load = about["load_before"][0]
    if load > about["cores"] / 2:
        say(f"the machine is busy already (load average {load:.1f}): figures will be worse than on a quiet one")
    results: dict[str, Result] = {}
    try:
        for name in names or BENCHMARKS:
            results[name] = asyncio.run(run(stack, name))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    write(stack, results, about)
    return 0 if all(row.value is not None for result in results.values() for row in result.rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
