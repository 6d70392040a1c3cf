"""The order of batch lines in a real worker: by deadline, and fair between tenants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from parts import Parts
from worker_world import Desk, worker

from schemas.wire import Codec
from workers.clock import now_ms

BATCH = {"pool": "slow", "model": "slow", "lane": "batch", "max_output_tokens": 10}
HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec, parts: Parts) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    held.configure({"slow": {"engine": "echo", "concurrency": 4, "token_ms": 5}}, {"slow": {"route": ["slow"]}})
    with worker(parts):
        held.done(held.ask("warm up", pool="slow", model="slow"), timeout_s=40)
        yield held


def ended(desk: Desk, *asked: list[str]) -> list[list[int]]:
    """Places of each list's requests in the order of completion."""
    desk.done(*(i for ids in asked for i in ids), timeout_s=60)
    order = [i for name, i in desk.order if name == "Completion"]
    return [sorted(order.index(i) for i in ids) for ids in asked]


def test_a_large_batch_ahead_does_not_keep_a_small_one_of_another_tenant_waiting(desk: Desk) -> None:
    soon = now_ms() + HOUR_MS
    large = [desk.ask("word " * 10, **BATCH, tenant="large", deadline=soon) for _ in range(600)]
    desk.read(lambda: any(i in desk.completions for i in large), "the large one has begun")
    small = [desk.ask("word " * 10, **BATCH, tenant="small", deadline=soon + HOUR_MS) for _ in range(30)]
    places = ended(desk, large, small)
    # In the order of arrival the last of the small batch would come last; in turn, soon after the lead.
    assert places[1][-1] < places[0][400], (places[1][0], places[1][-1])


def test_the_line_with_the_earlier_deadline_goes_first(desk: Desk) -> None:
    now = now_ms()
    late = [desk.ask("word " * 10, **BATCH, tenant="one", deadline=now + 2 * HOUR_MS) for _ in range(300)]
    desk.read(lambda: any(i in desk.completions for i in late), "the late ones have begun")
    urgent = [desk.ask("word " * 10, **BATCH, tenant="one", deadline=now + HOUR_MS) for _ in range(30)]
    places = ended(desk, late, urgent)
    assert places[1][-1] < places[0][150], (places[1][-1], places[0][150])
