"""Two tenants on one pool: how long a hundred lines of one take behind very many of the other, and calls beside both.

MILLRACE_NEIGHBOUR_LINES says how many lines the other tenant has. Its batch must never run dry while something is
measured; it is cancelled at the end.
"""

from __future__ import annotations

import asyncio
import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from openai import OpenAI

from tests.bench import input, latency
from tests.bench.driver import Stack, percentile, say
from tests.bench.report import Result, Row, Unmeasured

LINES: Final = 100_000
FEW: Final = 100
TURNS: Final = 5
TARGET: Final = 3.0
# Calls a second: far below what makes the lanes of the pool matter, and enough for a 99th percentile.
CALLS: Final = 20
# Lines of the other tenant that are done before anything is measured: its window has been found by then.
UNDER_WAY: Final = 5_000
POLL_S: Final = 0.05
START_S: Final = 240.0
FEW_S: Final = 120.0
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


def lines() -> int:
    """How many the other tenant has."""
    return int(os.environ.get("MILLRACE_NEIGHBOUR_LINES", LINES))


def limit_s() -> float:
    """When the benchmark is given up: all of its lines may have to be swept up at the end."""
    return 600.0 + lines() / 400


async def measure(stack: Stack) -> Result:
    """Few lines alone, and beside; calls alone, and beside. Raises Unmeasured."""
    few, many = _clients(stack)
    await asyncio.to_thread(turn, few)
    alone = [await asyncio.to_thread(turn, few) for _ in range(TURNS)]
    say(f"neighbours: {FEW} lines alone took {', '.join(f'{s:.2f}' for s in alone)} s")
    quiet = await latency.compare(stack, 1, CALLS)
    with await asyncio.to_thread(crowd, many) as batch:
        beside = [await asyncio.to_thread(turn, few) for _ in range(TURNS)]
        say(f"neighbours: behind {lines():,} they took {', '.join(f'{s:.2f}' for s in beside)} s")
        pace = _pace(many, batch)
        busy = await latency.compare(stack, 1, CALLS)
        _pace(many, batch)
    calls = (
        latency.result(*quiet, f"calls at {CALLS}/s alone"),
        latency.result(*busy, f"calls at {CALLS}/s beside it"),
    )
    return result(alone, beside, pace, *calls)


def _clients(stack: Stack) -> tuple[OpenAI, OpenAI]:
    keys = {"MILLRACE_BENCH_NEIGHBOUR_KEY": "mr-globex-demo", "MILLRACE_BENCH_CROWD_KEY": "mr-admin-demo"}
    few, many = (
        OpenAI(base_url=f"{stack.url}/v1", api_key=os.environ.get(name, key), max_retries=5, timeout=600)
        for name, key in keys.items()
    )
    return few, many


def turn(client: OpenAI) -> float:
    """Seconds from the creation of a batch of FEW lines to its end. Raises Unmeasured."""
    data = io.BytesIO(b"".join(input.blocks(FEW)))
    file = client.files.create(file=("few.jsonl", data), purpose="batch")
    began = time.monotonic()
    batch = _create(client, file.id)
    while batch.status not in ENDED:
        if time.monotonic() - began > FEW_S:
            raise Unmeasured(f"{batch.id}, of {FEW} lines, did not end within {FEW_S:.0f} s")
        time.sleep(POLL_S)
        batch = client.batches.retrieve(batch.id)
    if batch.status != "completed" or batch.request_counts.completed != FEW:
        raise Unmeasured(f"{batch.id} is {batch.status} with {batch.request_counts}")
    return time.monotonic() - began


def _create(client: OpenAI, file_id: str) -> Any:
    return client.batches.create(
        input_file_id=file_id,
        endpoint=input.ENDPOINT,  # type: ignore[arg-type]
        completion_window="24h",
    )


def crowd(client: OpenAI) -> Any:
    """The other tenant's batch while it runs, as a context. Returns when it is under way. Raises Unmeasured."""
    # httpx sends what iterates in chunks; the SDK takes it for a file by its `read`.
    file = client.files.create(file=("many.jsonl", cast(Any, input.File(lines()))), purpose="batch")
    batch = _create(client, file.id)
    began = time.monotonic()
    while _done(batch) < min(UNDER_WAY, lines() // 10):
        if time.monotonic() - began > START_S or batch.status in ENDED:
            raise Unmeasured(f"{batch.id} is {batch.status}: {batch.errors}")
        time.sleep(POLL_S)
        batch = client.batches.retrieve(batch.id)
    return _running(client, batch.id)


@contextmanager
def _running(client: OpenAI, batch_id: str) -> Iterator[str]:
    try:
        yield batch_id
    finally:
        if client.batches.retrieve(batch_id).status not in ENDED:
            client.batches.cancel(batch_id)
        say(f"neighbours: waiting for the end of {batch_id}")
        while client.batches.retrieve(batch_id).status not in ENDED:
            time.sleep(1)


def _done(batch: Any) -> int:
    counts = batch.request_counts
    return counts.completed + counts.failed if counts else 0


def _pace(client: OpenAI, batch_id: str) -> float:
    """Lines a second that the crowd's batch shows. Raises Unmeasured if it has run dry."""
    batch: Any = client.batches.retrieve(batch_id)
    open_lines = (batch.millrace or {}).get("open_lines", 0)
    if batch.status != "in_progress" or _done(batch) + open_lines >= lines():
        raise Unmeasured(f"{batch_id} had no lines left: ask for more than {lines():,} by MILLRACE_NEIGHBOUR_LINES")
    return float((batch.millrace or {}).get("lines_per_second") or 0.0)


def result(alone: list[float], beside: list[float], pace: float, quiet: Result, busy: Result) -> Result:
    """The rows."""
    ours, theirs = percentile(beside, 0.5), percentile(alone, 0.5)
    note = (
        f"medians of {len(alone)}: {ours:.2f} s behind {lines():,} lines of another tenant, which went on at "
        f"{pace:,.0f}/s, {theirs:.2f} s alone; creation to completed"
    )
    what = f"{FEW} lines behind another tenant's, times what they take alone"
    details = {"alone_s": alone, "beside_s": beside, "others_lines_per_s": pace}
    details |= {"calls_alone": quiet.details, "calls_beside": busy.details}
    return Result([Row(what, ours / theirs, "", TARGET, "<=", note), *quiet.rows, *busy.rows], details)
