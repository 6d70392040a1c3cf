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


def test_a_cancelled_batch_is_retried_and_every_line_is_answered_once(control: Control, slow: BatchAdmission) -> None:
    count = 1_500
    lines = [line(n, "refuse" if n % 100 == 0 and n <= 200 else f"line {n}") for n in range(1, count + 1)]
    file = control.client.files.create(file=("in.jsonl", jsonl(lines)), purpose="batch")
    first = control.client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"who": "me"}
    )
    with pytest.raises(openai.ConflictError, match="when it has ended"):
        control.post(first.id, "retry")
    await_(lambda: control.done(first.id) > 300, "progress")
    control.client.batches.cancel(first.id)
    old = control.ended(first.id)
    done = {value["custom_id"] for value in control.world.lines(old.output_file_id)}
    assert old.request_counts is not None and 0 < len(done) == old.request_counts.completed < count
    slow.per_second = 5_000
    retry = control.post(first.id, "retry", {"only": ["cancelled"]}, key="again")
    assert control.post(first.id, "retry", {"only": ["cancelled"]}, key="again").id == retry.id
    with pytest.raises(openai.ConflictError, match=retry.id):
        control.post(first.id, "retry", {"only": ["cancelled"]})
    with pytest.raises(openai.BadRequestError, match="another request"):
        control.post(first.id, "retry", {"only": ["failed"]}, key="again")
    with pytest.raises(openai.ConflictError, match="No line"):
        control.post(first.id, "retry", {"only": ["expired"]})
    assert millrace(retry)["retry_of"] == first.id and retry.metadata == {"who": "me"}
    new = control.ended(retry.id)
    assert new.status == "completed" and new.request_counts is not None
    again = {value["custom_id"] for value in control.world.lines(new.output_file_id)}
    failed = {value["custom_id"] for value in control.world.lines(old.error_file_id)} - again
    assert not done & again and failed == {"c100", "c200"}
    assert len(done) + len(again) + len(failed) == count == len(done | again | failed)
    assert millrace(control.get(first.id))["retried_by"] == [retry.id] and millrace(new)["retry_of"] == first.id
    # Each line got one answer that is billed: the ids of the requests that were answered are as many as the lines.
    assert new.request_counts.completed == len(again)
    control.client.files.delete(file.id)
    with pytest.raises(openai.ConflictError, match="is gone"):
        control.post(first.id, "retry", {"only": ["failed"]})


def test_a_batch_says_why_it_waits(control: Control, admission: BatchAdmission) -> None:
    admission.per_second = 0  # nothing is decided: lines are parked, and only a tenant with limits waits for quota

    def reason(batch_id: str, client: openai.OpenAI) -> str | None:
        waiting = millrace(client.batches.retrieve(batch_id))["waiting"]
        return waiting and waiting["reason"]

    tight = openai.OpenAI(api_key="key-tight", base_url=control.client.base_url, max_retries=0)
    limited = control.create(200, client=tight)
    free = control.create(200)
    await_(lambda: reason(limited, tight) == "quota", "the limited one to wait for quota")
    shown = millrace(tight.batches.retrieve(limited))["waiting"]
    assert "1000 requests per minute" in shown["message"] and shown["until"] % 60 == 0
    await_(lambda: reason(free, control.client) == "admission", "the other to wait for admission")
    control.world.circuit("p", is_open=True)
    await_(
        lambda: reason(limited, tight) == "pool_unavailable" == reason(free, control.client), "a circuit to be known"
    )
    control.world.circuit("p", is_open=False)
    await_(lambda: reason(limited, tight) == "quota", "it to be known as closed")
    admission.per_second = 1e9
    for client, batch_id in ((tight, limited), (control.client, free)):
        await_(lambda c=client, b=batch_id: c.batches.retrieve(b).status == "completed", "the end", 60)
