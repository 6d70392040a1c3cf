"""Which lines a retry runs again, and that none is ever run by two of them."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest import batch_gather, batch_object, batch_retry, file_object, ids, places, results
from ingest.batch_document import KINDS, Document, Kind, Kinds, Retry
from ingest.batch_object import Counts
from ingest.batch_retry import NotInInput, Refused
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from tests.unit.contended_bucket import ContendedBucket
from tests.unit.test_batch_progress import DOCUMENT, result

ENDINGS: dict[str, dict[str, Any]] = {
    "ok": {},
    "failed": {"status": "failed", "http_status": 400},
    "lost": {"status": "failed", "http_status": 0, "error_code": "no_worker"},
    "expired": {"status": "expired", "http_status": 0},
    "cancelled": {"status": "cancelled", "http_status": 0},
}


def ended(failed: int, expired: int = 0, cancelled: int = 0) -> Document:
    """A batch with so many lines of each kind, and one answer."""
    total = failed + expired + cancelled
    batch = batch_object.ended(DOCUMENT.batch, "completed", "file-o", "file-e" if total else None, 9)
    batch = replace(batch, request_counts=Counts(total + 1, 1, total))
    return Document(batch, replace(DOCUMENT.private, kinds=Kinds(expired, cancelled)))


def refusal(document: Document, only: tuple[Kind, ...] | None) -> str:
    with pytest.raises(Refused) as refused:
        batch_retry.take(document, only, "new")
    return refused.value.code


def test_all_that_has_no_answer_is_taken_once() -> None:
    document, taken = batch_retry.take(ended(2, 1), None, "b1")
    assert taken.only == ("failed", "expired")
    assert document.batch.millrace is not None and document.batch.millrace.retried_by == ("b1",)
    assert batch_retry.take(document, None, "b1") == (document, taken), "repeating it changes nothing"
    for only in (None, ("failed",), ("expired", "failed")):
        assert refusal(document, only) == "already_retried"
    assert refusal(document, ("cancelled",)) == "nothing_to_retry"
    assert batch_retry.lines(document, taken.only) == 3


def test_kinds_may_be_taken_one_by_one() -> None:
    document, _ = batch_retry.take(ended(2, 1, 4), ("expired",), "b1")
    assert refusal(document, ("failed", "expired")) == "already_retried"
    document, rest = batch_retry.take(document, None, "b2")
    assert rest.only == ("failed", "cancelled")
    assert document.batch.millrace is not None and document.batch.millrace.retried_by == ("b1", "b2")
    assert refusal(document, None) == "already_retried"


def test_a_retry_that_ran_nothing_gives_its_lines_back() -> None:
    document, _ = batch_retry.take(ended(2), None, "b1")
    document, again = batch_retry.take(document, None, "b2", void={"b1"})
    assert again.batch_id == "b2" and [r.batch_id for r in document.private.retries] == ["b2"]


def test_what_cannot_be_retried() -> None:
    assert refusal(DOCUMENT, None) == "batch_not_ended"
    assert refusal(ended(0), None) == "nothing_to_retry"
    assert refusal(ended(0, 3), ("failed",)) == "nothing_to_retry"
    bad = replace(DOCUMENT, batch=batch_object.failed(DOCUMENT.batch, [], 3))
    assert refusal(bad, None) == "nothing_to_retry"
    old = replace(ended(3), private=replace(DOCUMENT.private, kinds=None))
    assert batch_retry.take(old, ("expired",), "b")[1].only == ("expired",), "nobody counted: the file will tell"
    assert batch_retry.lines(old, ("expired",)) is None


@pytest.mark.parametrize("value", ["failed", [], ["lost"], {"failed": 1}, ["failed", 1]])
def test_what_is_no_choice(value: object) -> None:
    with pytest.raises(ValueError, match="only"):
        batch_retry.read_only(value)


def line(number: int) -> bytes:
    return orjson.dumps({"custom_id": f"ü{number}", "method": "POST", "url": "/", "body": {"n": number}})


@given(st.lists(st.sampled_from(sorted(ENDINGS)), max_size=40), st.sets(st.sampled_from(KINDS), min_size=1))
def test_the_lines_are_those_of_the_error_file_in_the_order_of_the_input(endings: list[str], only: set[Kind]) -> None:
    inputs = [line(n) for n in range(len(endings))]
    outcomes = [results.outcome(result(n + 1, custom_id=f"ü{n}", **ENDINGS[how])) for n, how in enumerate(endings)]
    errors = [o.text for o in outcomes if o.kind == results.ERROR]
    kinds = {"failed": "failed", "lost": "failed", "expired": "expired", "cancelled": "cancelled"}
    expected = [line(n) for n, how in enumerate(endings) if kinds.get(how) in only]
    assert list(batch_retry.pick(inputs, batch_retry.wanted(errors, only))) == expected


def test_an_input_that_is_another_one_is_noticed() -> None:
    with pytest.raises(NotInInput, match="ü9"):
        list(batch_retry.pick([line(1)], iter(["ü9"])))


def test_a_run_counts_its_kinds() -> None:
    run = BatchRun(replace(DOCUMENT, private=replace(DOCUMENT.private, kinds=Kinds())), "e")
    run.judge(Verdict(5, "echo", ()), 1)
    for number, how in enumerate(("ok", "failed", "lost", "expired", "cancelled"), start=1):
        run.take(result(number, **ENDINGS[how]), 2)
    document = run.checkpoint(3).document
    assert document.private.kinds == Kinds(1, 1)
    again = BatchRun(document, "e").checkpoint(4).document
    assert again.private.kinds == Kinds(1, 1), "they survive a kill"


def test_the_input_of_a_retry_is_gathered_once() -> None:
    bucket, stop = ContendedBucket(), threading.Event()
    inputs = b"".join(line(n) + b"\n" for n in range(50))
    errors = b"".join(
        results.outcome(result(n + 1, custom_id=f"ü{n}", **ENDINGS["failed"])).text + b"\n" for n in range(0, 50, 7)
    )
    bucket.storage.put(places.file_content("acme", "in"), inputs)
    bucket.storage.put(places.file_content("acme", "err"), errors)
    name = batch_gather.file_id("batch_2", 5)
    private = replace(DOCUMENT.private, retry=Retry("batch_1", "in", "err", ("failed",)))
    document = Document(replace(DOCUMENT.batch, id="batch_2", input_file_id=name), private)
    assert all(document.reads(file_id) for file_id in (name, "in", "err")) and not document.reads("x")
    batch_gather.gather(bucket.storage, document, stop)
    gathered = bucket.storage.get(places.file_content("acme", name)).body
    assert gathered == b"".join(line(n) + b"\n" for n in range(0, 50, 7))
    file = file_object.decode(bucket.storage.get(places.file_object("acme", name)).body)
    assert (file.bytes, file.lines, file.purpose) == (len(gathered), 8, "batch") and ids.is_id(ids.FILE, name)
    before = dict(bucket.objects)
    bucket.storage.delete([places.file_content("acme", "in")])
    batch_gather.gather(bucket.storage, document, stop)
    assert bucket.objects[places.file_content("acme", name)] == before[places.file_content("acme", name)]
    validated = replace(document, private=replace(private, validated=True))
    assert not validated.reads("in") and validated.reads(name)


def test_documents_of_before_are_read() -> None:
    old = msgspec.json.decode(msgspec.json.encode(DOCUMENT))
    for name in ("kinds", "retry", "retries", "paused_ms"):
        del old["private"][name]
    assert msgspec.json.decode(msgspec.json.encode(old), type=Document) == DOCUMENT
