"""Control of batches by a real gateway and a real batcher, with a double of admission: every line ends exactly once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from parts import await_

pytest_plugins = ("batch_world",)

FINAL = ("completed", "failed", "expired", "cancelled")


class Control:
    """The SDK, with the calls that are extensions, and the batcher's process."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.batcher: subprocess.Popen[bytes] = world.batcher()
        self.client = openai.OpenAI(api_key="key-acme", base_url=world.gateway(), max_retries=0)

    def create(self, count: int, window: str = "24h", client: openai.OpenAI | None = None) -> str:
        client = client or self.client
        file = client.files.create(file=("in.jsonl", jsonl([line(n) for n in range(1, count + 1)])), purpose="batch")
        batch = client.batches.create(
            input_file_id=file.id,
            endpoint="/v1/chat/completions",
            completion_window=window,  # type: ignore[arg-type]
        )
        return batch.id

    def post(self, batch_id: str, what: str, body: dict[str, Any] | None = None, key: str = "") -> openai.types.Batch:
        options: Any = {"headers": {"idempotency-key": key}} if key else {}
        path = f"/batches/{batch_id}/{what}"
        return self.client.post(path, cast_to=openai.types.Batch, body=body, options=options)

    def get(self, batch_id: str) -> openai.types.Batch:
        return self.client.batches.retrieve(batch_id)

    def done(self, batch_id: str) -> int:
        counts = self.get(batch_id).request_counts
        return counts.completed + counts.failed if counts else 0

    def ended(self, batch_id: str) -> openai.types.Batch:
        await_(lambda: self.get(batch_id).status in FINAL, f"the end of {batch_id}", 60)
        return self.get(batch_id)

    def ids(self, batch: openai.types.Batch) -> list[int]:
        """Numbers of the lines in its files: each line of the input once, if they add up."""
        found = []
        for name in (batch.output_file_id, batch.error_file_id):
            found += [int(value["custom_id"][1:]) for value in self.world.lines(name)]
        return sorted(found)


def millrace(batch: openai.types.Batch) -> dict[str, Any]:
    """Our part of the object."""
    found: dict[str, Any] = batch.model_extra["millrace"]  # type: ignore[index]
    return found


@pytest.fixture(scope="module")
def control(world: World) -> Control:
    return Control(world)


@pytest.fixture
def slow(admission: BatchAdmission) -> Iterator[BatchAdmission]:
    admission.per_second = 300
    yield admission


def test_a_paused_batch_sends_nothing_survives_a_kill_and_goes_on(control: Control, slow: BatchAdmission) -> None:
    count = 3_000
    batch_id = control.create(count)
    await_(lambda: control.done(batch_id) > 100, "progress")
    paused = control.post(batch_id, "pause")
    assert paused.status == "in_progress" and millrace(paused)["paused"]
    await_(lambda: len(slow.answered) == len({r["request_id"] for r in slow.requests}), "the lines under way to end")
    await_(lambda: control.done(batch_id) == len(slow.answered), "their results")
    held = control.done(batch_id)
    assert held < count
    control.batcher.kill()
    control.batcher.wait()
    control.batcher = control.world.batcher()
    # Another batch is served meanwhile, so the batcher is at work; the paused one stays where it was.
    assert control.ended(control.create(50)).status == "completed"
    shown = control.get(batch_id)
    assert (control.done(batch_id), shown.status, millrace(shown)["waiting"]["reason"]) == (
        held,
        "in_progress",
        "paused",
    )
    assert millrace(control.post(batch_id, "pause"))["paused"], "pausing again changes nothing"
    slow.per_second = 3_000
    assert not millrace(control.post(batch_id, "resume"))["paused"]
    batch = control.ended(batch_id)
    assert batch.status == "completed" and control.ids(batch) == list(range(1, count + 1))
    assert len(slow.answered) == count + 50
    for what in ("pause", "resume"):
        with pytest.raises(openai.ConflictError, match="too late"):
            control.post(batch_id, what)


def test_a_paused_batch_expires_and_can_be_cancelled(control: Control, slow: BatchAdmission) -> None:
    expiring, cancelled = control.create(2_000, "6s"), control.create(500)
    for batch_id in (expiring, cancelled):
        control.post(batch_id, "pause")
    control.client.batches.cancel(cancelled)
    ended = control.ended(cancelled)
    assert ended.status == "cancelled" and control.ids(ended) == list(range(1, 501))
    ended = control.ended(expiring)
    assert ended.status == "expired" and control.ids(ended) == list(range(1, 2_001))
    assert len(slow.answered) == 2_500
