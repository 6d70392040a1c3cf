"""The batch object, its document, bitmap, parts, and a batch in memory."""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest import batch_document, batch_object, parts, results
from ingest.batch_document import Document, Private, Run
from ingest.batch_line import Fault
from ingest.batch_object import Batch, Progress
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from ingest.bitmap import Bitmap
from ingest.results import Outcome
from schemas.records import BatchResult

BATCH = Batch("batch_1", "/v1/chat/completions", "file-1", "24h", 100, 86_500)
DOCUMENT = Document(BATCH, Private("acme", "demo", 100_000, 86_500_000, epoch=1))


def result(line: int, **changes: Any) -> BatchResult:
    fields = {
        "tenant": "acme",
        "batch_id": "batch_1",
        "line": line,
        "custom_id": f"c{line}",
        "request_id": "0-1",
        "status": "completed",
        "http_status": 200,
        "body": b'{"a":1}',
        "error_code": "",
        "error_message": "",
        "input_tokens": 3,
        "output_tokens": 2,
        "cached_tokens": 1,
        "reasoning_tokens": 0,
    }
    return BatchResult(**{**fields, **changes})  # type: ignore[typeddict-item]


def running(total: int = 3) -> BatchRun:
    run = BatchRun(DOCUMENT, "e")
    run.judge(Verdict(total, "echo", ()), 101_000)
    return run


@pytest.mark.parametrize(
    ("text", "seconds"), [("24h", 86400), ("1s", 1), ("90m", 5400), ("7d", 604800), ("168h", 604800)]
)
def test_windows(text: str, seconds: int) -> None:
    assert batch_object.window_s(text) == seconds


@pytest.mark.parametrize("text", ["", "24", "0h", "8d", "169h", "1w", "-1h", "1.5h", " 1h", "1h ", "٣h", 24, None])
def test_what_is_no_window(text: object) -> None:
    assert batch_object.window_s(text) is None


def test_metadata_has_limits() -> None:
    assert batch_object.metadata_fault(None) is None
    assert batch_object.metadata_fault({str(n): "x" * 512 for n in range(16)}) is None
    for bad in ({str(n): "" for n in range(17)}, {"k" * 65: ""}, {"k": "v" * 513}, {"k": 1}, ["k"]):
        assert batch_object.metadata_fault(bad)


def test_the_object_shows_every_field() -> None:
    shown = orjson.loads(msgspec.json.encode(BATCH))
    assert shown["output_file_id"] is None and shown["errors"] is None and shown["metadata"] is None
    assert shown["request_counts"] == {"total": 0, "completed": 0, "failed": 0}
    assert shown["usage"]["input_tokens_details"] == {"cached_tokens": 0}
    assert (shown["object"], shown["status"]) == ("batch", "validating")


def test_statuses_follow_each_other() -> None:
    started = batch_object.started(BATCH, 3, "echo", 101)
    assert (started.status, started.model, started.in_progress_at) == ("in_progress", "echo", 101)
    ended = batch_object.ended(batch_object.finalizing(started, 102), "completed", "f", None, 103)
    assert (ended.status, ended.finalizing_at, ended.completed_at) == ("completed", 102, 103)
    assert not batch_object.can_cancel(ended)
    cancelled = batch_object.cancelling(started, 104)
    assert batch_object.cancelling(cancelled, 105) == cancelled
    assert batch_object.finalizing(cancelled, 106).status == "cancelling"
    failed = batch_object.failed(BATCH, [Fault("empty_file", "m")], 107)
    assert (failed.status, failed.failed_at) == ("failed", 107)
    assert batch_object.failed(batch_object.cancelling(BATCH, 1), [], 2).status == "cancelled"


def test_a_batch_that_failed_waits_for_nothing() -> None:
    waits = Progress(waiting=batch_object.VALIDATING)
    assert batch_object.failed(replace(BATCH, millrace=waits), [], 2).millrace is None
    retry = replace(BATCH, millrace=replace(waits, retry_of="batch_0"))
    assert batch_object.failed(retry, [], 2).millrace == Progress(retry_of="batch_0")


def test_a_document_survives_its_bytes() -> None:
    document = replace(DOCUMENT, private=replace(DOCUMENT.private, parts=(Run(1, 0, 4),), done="3:abc"))
    assert batch_document.decode(batch_document.encode(document)) == document


def test_a_refused_put_is_understood() -> None:
    mine = replace(DOCUMENT, private=replace(DOCUMENT.private, revision=5))
    assert batch_document.meet(mine, mine) == "mine"
    assert batch_document.meet(mine, DOCUMENT) == "retry"
    assert batch_document.meet(mine, batch_document.claimed(mine)) == "lost"
    cancelled = replace(DOCUMENT, batch=batch_object.cancelling(BATCH, 7))
    adopted = batch_document.adopt(mine, cancelled)
    assert (adopted.batch.status, adopted.batch.cancelling_at, adopted.private.ending) == ("cancelling", 7, "cancelled")
    done = replace(mine, batch=batch_object.ended(BATCH, "completed", None, None, 8))
    assert batch_document.adopt(done, cancelled) == done


@given(st.integers(1, 70), st.lists(st.integers(1, 70)))
def test_the_bitmap_is_a_set(total: int, lines: list[int]) -> None:
    bitmap, reference = Bitmap(total), set[int]()
    for number in (n for n in lines if n <= total):
        assert bitmap.add(number) == (number not in reference)
        reference.add(number)
    again = Bitmap.decode(bitmap.encode(), total)
    for each in (bitmap, again):
        assert {n for n in range(1, total + 1) if n in each} == reference
        assert each.count == len(reference)
        assert each.full == (len(reference) == total)
        assert each.low == next(n for n in range(total + 1) if n + 1 not in reference)


def test_the_bitmap_of_a_large_batch_is_small() -> None:
    bitmap = Bitmap(1_000_000)
    for number in range(1, 900_001):
        bitmap.add(number)
    for number in range(900_101, 905_000):
        bitmap.add(number)
    assert len(bitmap.encode()) < 200


def test_where_results_go() -> None:
    answer = results.outcome(result(1, body=b'{\n "a": 1e3\n}'))
    assert (answer.kind, b"\n" in answer.text, b"1e3" in answer.text) == ("o", False, True)
    assert orjson.loads(answer.text)["response"]["body"] == {"a": 1000.0}
    refused = results.outcome(result(2, http_status=429, status="refused", body=b'{"error":{}}'))
    assert refused.kind == "e" and orjson.loads(refused.text)["error"] is None
    expired = orjson.loads(results.outcome(result(3, http_status=0, status="expired", body=b"")).text)
    assert expired["response"] is None and expired["error"]["code"] == "batch_expired"
    broken = orjson.loads(results.outcome(result(4, body=b"<html>")).text)
    assert broken["error"]["code"] == "invalid_response"
    bare = orjson.loads(results.outcome(result(5, http_status=503, body=b"", error_code="c")).text)
    assert set(bare["response"]["body"]["error"]) == {"message", "type", "param", "code"}


@given(st.lists(st.integers(0, 5), max_size=60))
def test_parts_merge_in_the_order_of_lines(owners: list[int]) -> None:
    """Line n+1 was written into part owners[n]."""
    texts: dict[str, bytes] = {}
    for owner in set(owners):
        lines = [n + 1 for n, o in enumerate(owners) if o == owner]
        outcomes = [Outcome(n, "o", b'{"tab":\t%d}' % n) for n in reversed(lines)]
        texts[parts.key("batch_1", 2, owner, min(lines), max(lines))] = parts.encode(outcomes)
    texts[parts.key("batch_1", 1, 0, 1, 1)] = b"left by a batcher that died"
    runs = [Run(2, owner, owner) for owner in set(owners)]
    counted = parts.counted(texts, runs)
    merged = list(parts.merge(counted, lambda p: parts.decode(texts[p.key].splitlines())))
    assert [o.line for o in merged] == list(range(1, len(owners) + 1))
    assert all(o.text == b'{"tab":\t%d}' % o.line for o in merged)


def test_a_missing_part_is_noticed() -> None:
    with pytest.raises(AssertionError, match="1 parts are stored, 2"):
        parts.counted([parts.key("batch_1", 1, 0, 1, 1)], [Run(1, 0, 1)])


def test_a_run_counts_each_line_once() -> None:
    run = running()
    assert run.step() == "feed"
    assert run.take(result(2), 1) and not run.take(result(2, status="cancelled", http_status=0), 2)
    assert not run.take(result(4), 3)
    checkpoint = run.checkpoint(4)
    shown = checkpoint.document.batch
    assert (shown.request_counts.completed, shown.usage.total_tokens) == (1, 5)
    assert checkpoint.document.private.parts == (Run(1, 0, 0),)
    assert not run.dirty
    for line in (1, 3):
        run.take(result(line), 5)
    assert run.due and run.step() == "finalise" and not run.ready_to_finalise
    document = run.checkpoint(6_000).document
    assert (document.batch.status, document.batch.finalizing_at, document.private.ended_ms) == ("finalizing", 6, 6000)
    assert document.private.parts == (Run(1, 0, 1),)
    run.stored(document, "f")
    assert run.ready_to_finalise
    run.end("file-o", None, 7_000)
    assert run.step() == "leave" and run.document.batch.status == "completed"


def test_a_run_goes_on_where_its_document_stands() -> None:
    run = running(10)
    for line in range(1, 8):
        run.open[line] = 100 * line
        run.position = (line + 1, 100 * line + 100)
    for line in (1, 2, 5):
        run.take(result(line), 1)
    document = run.checkpoint(2).document
    assert (document.private.line, document.private.offset) == (3, 300)
    again = BatchRun(batch_document.claimed(document), "e")
    assert again.position == (3, 300) and 5 in again.bitmap and not again.take(result(5), 3)
    again.take(result(6), 4)
    assert again.checkpoint(5).document.private.parts == (Run(1, 0, 0), Run(2, 0, 0))


def test_a_run_that_is_cancelled_sweeps() -> None:
    run = running()
    run.open[1] = 0
    saved = run.checkpoint(1).document
    run.stored(replace(saved, batch=batch_object.cancelling(saved.batch, 9)), "f")
    assert run.step() == "sweep" and not run.open and run.document.batch.cancelling_at == 9
    for line in (1, 2, 3):
        run.take(result(line, status="cancelled", http_status=0), 2)
    assert run.checkpoint(3).document.batch.status == "cancelling"
    run.end(None, "file-e", 10_000)
    assert (run.document.batch.status, run.document.batch.cancelled_at) == ("cancelled", 10)


def test_a_run_expires_at_its_deadline() -> None:
    run = running()
    assert not run.expire(86_499_999) and run.step() == "feed"
    assert run.expire(86_500_000) and run.step() == "sweep"
    assert not run.expire(86_500_001)


def test_a_cancelled_batch_is_validated_first() -> None:
    cancelled = replace(DOCUMENT, batch=batch_object.cancelling(BATCH, 9))
    run = BatchRun(cancelled, "e")
    assert run.step() == "validate"
    run.judge(Verdict(2, "echo", ()), 10)
    assert run.step() == "sweep" and run.document.batch.status == "cancelling"
