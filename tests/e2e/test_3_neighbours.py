"""One tenant with very many lines ahead and another with a hundred: nobody waits for the many."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import openai
import pytest

from tests.bench import input
from tests.e2e.batches import ENDED, finished
from tests.e2e.stack import Stack, eventually

FEW, TURNS = 100, 3
# Times what they take alone: half of a pool is theirs, and what is at work already comes first.
BOUND = 3.0


def batch_of(client: openai.OpenAI, lines: int, model: str) -> Any:
    """A batch of that many lines, uploaded as it is made."""
    file = client.files.create(file=("lines.jsonl", cast(Any, input.File(lines, model))), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=input.ENDPOINT, completion_window="24h")  # type: ignore[arg-type]


def turn(client: openai.OpenAI, model: str) -> float:
    """Seconds that FEW lines take from the batch's creation to its end."""
    began = time.monotonic()
    batch = finished(client, batch_of(client, FEW, model), 240)
    assert batch.status == "completed" and batch.request_counts.completed == FEW, batch
    return time.monotonic() - began


@contextmanager
def crowd(client: openai.OpenAI, lines: int, model: str) -> Iterator[None]:
    """A batch that is under way meanwhile and does not run dry; cancelled at the end, when its counts must add up."""
    batch = batch_of(client, lines, model)
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed >= lines // 100, 120, "its lines")
    yield
    seen: Any = client.batches.retrieve(batch.id)
    waiting = lines - seen.request_counts.completed - seen.millrace["open_lines"]
    assert seen.status == "in_progress" and waiting > 0, f"nothing was ahead any more: {seen}"
    client.batches.cancel(batch.id)
    last = eventually(lambda: (b := client.batches.retrieve(batch.id)).status in ENDED and b, 400, "the end")
    assert last.status == "cancelled" and last.request_counts.completed + last.request_counts.failed == lines


@pytest.mark.parametrize(("model", "lines"), [("echo", 20_000), ("slow", 2_000)])
def test_a_hundred_lines_do_not_wait_for_the_many_of_another(stack: Stack, model: str, lines: int) -> None:
    few, many = stack.client("few", timeout=60), stack.client("many", timeout=300)
    turn(few, model)
    alone = [turn(few, model) for _ in range(TURNS)]
    with crowd(many, lines, model):
        beside = [turn(few, model) for _ in range(TURNS)]
    assert statistics.median(beside) <= BOUND * statistics.median(alone), (beside, alone)
