"""The batcher as a process, with real Kafka, S3 and registry, and a double of admission."""

from __future__ import annotations

from typing import Any

import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from journal_tail import everything
from parts import await_

from ingest import parts, places

pytest_plugins = ("batch_world",)


@pytest.fixture(scope="module", autouse=True)
def batcher(world: World) -> None:
    world.batcher()


def contents(lines: list[dict[str, Any]]) -> list[str]:
    return [value["response"]["body"]["choices"][0]["message"]["content"] for value in lines]


def test_a_batch_of_a_thousand_lines(world: World, admission: BatchAdmission) -> None:
    batch = world.ended(world.create(jsonl([line(n) for n in range(1, 1001)])))
    assert batch.status == "completed"
    assert batch.model == "echo"
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (1000, 1000, 0)
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (2000, 2000, 4000)
    lines = world.lines(batch.output_file_id)
    assert [value["custom_id"] for value in lines] == [f"c{n}" for n in range(1, 1001)]
    assert contents(lines) == [f"line {n}" for n in range(1, 1001)]
    assert batch.error_file_id is None
    assert None not in (batch.in_progress_at, batch.finalizing_at, batch.completed_at)
    request = admission.requests[0]
    assert (request["lane"], request["source"], request["key_id"]) == ("batch", "batch", "demo")
    await_(lambda: not list(world.storage.keys(parts.folder(batch.id))), "parts removed")
    await_(lambda: not list(world.storage.keys(places.open_batches("acme"))), "mark removed")


def test_failed_lines_do_not_fail_a_batch(world: World, admission: BatchAdmission) -> None:
    asked = [line(1), line(2, "refuse"), line(3, "fail"), line(4)]
    batch = world.ended(world.create(jsonl(asked)))
    assert batch.status == "completed"
    assert (batch.request_counts.completed, batch.request_counts.failed) == (2, 2)
    assert [v["custom_id"] for v in world.lines(batch.output_file_id)] == ["c1", "c4"]
    refused, failed = world.lines(batch.error_file_id)
    assert refused["error"] is None and refused["response"]["status_code"] == 400
    assert refused["response"]["body"]["error"]["code"] == "context_length_exceeded"
    assert failed["response"] is None and failed["error"] == {"code": "no_worker", "message": "Nobody answered."}


def test_every_fault_of_a_file_is_reported(world: World, admission: BatchAdmission) -> None:
    other = {"model": "other", "messages": []}
    bad = [
        line(1),
        line(1),
        line(3, url="/v1/embeddings"),
        line(4, body=other),
        line(5, body={"model": "nobody"}),
        line(6, body=[]),
    ]
    batch = world.ended(world.create(jsonl(bad) + b"{nope\n"))
    assert batch.status == "failed" and batch.failed_at and batch.in_progress_at is None
    assert batch.errors is not None
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (2, "duplicate_custom_id"),
        (3, "url_mismatch"),
        (4, "model_mismatch"),
        (5, "model_mismatch"),
        (6, "invalid_request"),
        (7, "invalid_json_line"),
    ]
    empty = world.ended(world.create(b""))
    assert empty.errors is not None and empty.errors.data[0].code == "empty_file"
    assert not admission.requests


def test_cancelling_keeps_what_is_finished(world: World, admission: BatchAdmission) -> None:
    admission.per_second = 300
    batch_id = world.create(jsonl([line(n) for n in range(1, 2001)]))
    await_(lambda: world.get(batch_id).request_counts.completed > 100, "progress")
    assert world.cancel(batch_id).status == "cancelling"
    batch = world.ended(batch_id)
    assert batch.status == "cancelled" and batch.cancelled_at and batch.cancelling_at
    done, left = world.lines(batch.output_file_id), world.lines(batch.error_file_id)
    assert 100 < len(done) < 2000 and len(done) + len(left) == 2000
    assert {v["error"]["code"] for v in left} == {"batch_cancelled"}
    assert sorted(int(v["custom_id"][1:]) for v in done + left) == list(range(1, 2001))
    assert len({c["request_id"] for c in admission.cancellations}) >= len(left)


def test_cancelling_at_once(world: World, admission: BatchAdmission) -> None:
    admission.per_second = 0
    batch_id = world.create(jsonl([line(n) for n in range(1, 301)]))
    world.cancel(batch_id)
    batch = world.ended(batch_id)
    assert batch.status == "cancelled" and batch.output_file_id is None
    assert len(world.lines(batch.error_file_id)) == 300


def test_the_window_ends(world: World, admission: BatchAdmission) -> None:
    admission.per_second = 100
    batch = world.ended(world.create(jsonl([line(n) for n in range(1, 1001)]), window="3s"))
    assert batch.status == "expired" and batch.expired_at is not None
    assert 0 <= batch.expired_at - batch.expires_at <= 5
    done, left = world.lines(batch.output_file_id), world.lines(batch.error_file_id)
    assert done and left and len(done) + len(left) == 1000
    assert {v["error"]["code"] for v in left} == {"batch_expired"}


def test_tenants_take_turns(world: World, admission: BatchAdmission) -> None:
    admission.per_second = 200
    large = world.create(jsonl([line(n) for n in range(1, 3001)]), "acme")
    await_(lambda: world.get(large).request_counts.completed > 50, "progress of the large one")
    small = world.ended(world.create(jsonl([line(n) for n in range(1, 101)]), "globex"), "globex")
    assert small.status == "completed"
    assert world.get(large).status == "in_progress"
    world.cancel(large)
    world.ended(large)


def test_every_batch_that_ended_has_its_row_in_the_lakes_topic(world: World, admission: BatchAdmission) -> None:
    bad, good = world.create(b""), world.create(jsonl([line(1), line(2, "fail")]))
    ended = [world.ended(batch_id) for batch_id in (bad, good)]
    await_(lambda: not list(world.storage.keys(places.open_batches("acme"))), "marks removed")
    rows = {row["batch_id"]: row for row in everything(world.addresses.kafka, world.codec, "batches")}
    shown = [rows[batch_id] for batch_id in (bad, good)]
    assert [(r["status"], r["error_code"], r["lines"], r["failed_lines"]) for r in shown] == [
        ("failed", "empty_file", 0, 0),
        ("completed", "", 2, 1),
    ]
    assert [r["output_file_id"] or None for r in shown] == [batch.output_file_id for batch in ended]
