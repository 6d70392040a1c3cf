"""Killing the batcher at any moment loses no line and doubles none."""

from __future__ import annotations

import signal
import time

import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from parts import await_

pytest_plugins = ("batch_world",)
pytestmark = pytest.mark.usefixtures("own_processes")


@pytest.fixture(autouse=True)
def slowly(admission: BatchAdmission) -> None:
    admission.per_second = 400


def check(world: World, batch_id: str, count: int) -> None:
    batch = world.ended(batch_id)
    assert batch.status == "completed"
    expected = [f"c{n}" for n in range(1, count + 1)]
    assert [value["custom_id"] for value in world.lines(batch.output_file_id)] == expected
    assert batch.request_counts.completed == count
    assert batch.usage.input_tokens == 2 * count


def test_killed_five_times(world: World, admission: BatchAdmission) -> None:
    process = world.batcher()
    count = 6000
    batch_id = world.create(jsonl([line(n) for n in range(1, count + 1)]))
    for _ in range(5):
        done = len(admission.answered) + 200
        await_(lambda done=done: len(admission.answered) >= done, f"{done} answers")
        before = world.get(batch_id)
        assert before.status in ("validating", "in_progress") and before.request_counts.completed < count
        process.kill()
        process.wait()
        started, old = time.monotonic(), process.pid
        process = world.batcher()
        assert process.pid != old
        await_(lambda n=before.request_counts.completed: world.get(batch_id).request_counts.completed > n, "going on")
        print(f"killed at {before.request_counts}; going on after {time.monotonic() - started:.1f} s")
    check(world, batch_id, count)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_killed_while_its_files_are_written(world: World, admission: BatchAdmission) -> None:
    # Twelve seconds of lines: the first piece is there long before their end, also where others use the machine.
    admission.per_second = 200
    process = world.batcher()
    count = 2400
    batch_id = world.create(jsonl([line(n, f"{n} {'x' * 24_000}") for n in range(1, count + 1)]))
    await_(lambda: world.store.document("acme", batch_id).private.assembly, "a first piece of the output file")
    assert world.get(batch_id).status == "in_progress" and list(world.storage.unfinished())
    process.kill()
    process.wait()
    process = world.batcher()
    check(world, batch_id, count)
    await_(lambda: not list(world.storage.unfinished()), "the end of every upload")
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_two_batchers_and_one_dies(world: World, admission: BatchAdmission) -> None:
    processes = [world.batcher("batcher-1"), world.batcher("batcher-2")]
    batches = [world.create(jsonl([line(n) for n in range(1, 401)])) for _ in range(4)]
    await_(lambda: len(admission.answered) >= 400, "400 answers")
    processes[0].kill()
    for batch_id in batches:
        check(world, batch_id, 400)
    processes[1].send_signal(signal.SIGTERM)
    assert processes[1].wait(10) == 0


def test_storage_goes_away(world: World, admission: BatchAdmission) -> None:
    process = world.batcher()
    batch_id = world.create(jsonl([line(n) for n in range(1, 1001)]))
    await_(lambda: len(admission.answered) >= 200, "200 answers")
    world.parts.stop("s3", kill=True)
    answered = len(admission.answered)
    await_(lambda: len(admission.answered) >= answered + 100, "100 more answers while S3 is away")
    world.parts.start("s3")
    check(world, batch_id, 1000)
    assert process.poll() is None
