"""What is known of a batch when it is created, and what is made of that."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import orjson
import pytest
from msgspec.structs import replace

from ingest import acceptance, capacity, ids, places
from ingest.acceptance import Load, Window
from ingest.batch_document import Kinds
from ingest.batch_models import Models
from ingest.batch_object import Counts
from ingest.capacity import Measure, Queue, Report
from ingest.enqueued import BYTES_A_TOKEN
from ingest.envelope import ApiError
from schemas import config
from schemas.config import Principal
from tests.unit.contended_bucket import ContendedBucket
from tests.unit.test_batch_progress import BATCH, DOCUMENT
from tests.unit.world import T0, configuration

WHO = Principal("acme", "k", ("client",))
BATCH_ID = ids.newest_first(ids.BATCH, 1, b"x")


def line(text: str) -> bytes:
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    return orjson.dumps({"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body})


def load_of(content: bytes, lines: int | None = None) -> Load:
    bucket = ContendedBucket()
    file_id = ids.newest_first(ids.FILE, 1, b"x")
    bucket.storage.put(places.file_content("acme", file_id), content)
    return acceptance.load_of_input(bucket.storage, "acme", file_id, len(content), lines)


def test_a_load_is_read_off_the_first_line() -> None:
    content = b"\n".join([line("x" * 4_000)] * 3)
    load = load_of(content, 3)
    assert (load.tokens, load.lines, load.model) == (-(-len(content) // BYTES_A_TOKEN), 3, "echo")
    assert 2_900 <= load.said <= 3_000, "of what stands around the texts nothing is generated"


@pytest.mark.parametrize("content", [b"", b"{}", b"\xef\xbb\xbf" + line("x"), b"x" * 5_000_000])
def test_what_validation_will_refuse_says_nothing(content: bytes) -> None:
    load = load_of(content, 1)
    assert (load.model, load.first, load.tokens) == ("", None, -(-len(content) // BYTES_A_TOKEN))


def test_an_input_that_is_gone_says_nothing() -> None:
    bucket = ContendedBucket()
    load = acceptance.load_of_input(bucket.storage, "acme", ids.newest_first(ids.FILE, 1, b"x"), 40, 1)
    assert load == Load(10, 10, 1, "")


def test_a_retry_counts_its_part() -> None:
    batch = replace(BATCH, status="expired", model="echo", error_file_id="file-e", request_counts=Counts(10, 4, 6))
    old = replace(DOCUMENT, batch=batch, private=replace(DOCUMENT.private, enqueued=101, kinds=Kinds(expired=5)))
    assert acceptance.load_of_retry(old, ("expired",)) == Load(51, 51, 5, "echo")
    assert acceptance.load_of_retry(old, ("failed", "expired")).lines == 6
    unknown = replace(old, private=replace(old.private, kinds=None))
    assert acceptance.load_of_retry(unknown, ("expired",)) == Load(101, 101, None, "echo")


class Gateway:
    """A double of what the gateway's routes share: a bucket, and a configuration."""

    def __init__(self, *limits: dict[str, Any]) -> None:
        self.bucket = ContendedBucket()
        self.document = config.document(configuration(list(limits)))
        self.models = Models(self.document)
        self.services: Any = SimpleNamespace(
            config=lambda: self.document, s3=self.bucket, addresses=SimpleNamespace(bucket="b"), enquiries=None
        )

    def report(self, *queues: Queue, model: str = "echo", pools: str = "") -> None:
        measure = Measure(10, 1_000, T0, pools or self.models.fingerprint(model))
        report = Report({model: measure}, {model: queues}, T0)
        self.bucket.storage.put(places.capacity("batcher"), msgspec.json.encode(report))

    def accept(self, load: Load, window_s: int) -> int | None:
        window = Window(BATCH_ID, T0, T0 + 1000 * window_s)
        return asyncio.run(acceptance.accept(cast("Any", self.services), WHO, load, window))


LOAD = Load(10_000, 10_000, 100, "echo")


def test_without_a_measure_any_window_will_do() -> None:
    gateway = Gateway()
    assert gateway.accept(LOAD, 1) is None
    gateway.report(pools="others")
    assert gateway.accept(LOAD, 1) is None, "the pools are not those that were measured"
    gateway.bucket.storage.put(places.capacity("batcher"), b"{")
    assert gateway.accept(LOAD, 1) is None


def test_a_window_is_judged_by_what_was_measured() -> None:
    gateway = Gateway()
    gateway.report()
    assert gateway.accept(LOAD, 10) == T0 + 10_000 == gateway.accept(LOAD._replace(model="default"), 9)
    with pytest.raises(ApiError) as refused:
        gateway.accept(LOAD, 7)
    assert refused.value.code == "window_too_short" and "10s" in refused.value.message
    for unknown in (LOAD._replace(lines=None), LOAD._replace(model=""), LOAD._replace(lines=0)):
        assert gateway.accept(unknown, 1) is None
    gateway.report(Queue("globex", T0, 1_000))
    assert gateway.accept(LOAD, 20) == T0 + 20_000, "it takes turns with the other tenant"


def test_what_is_refused_for_its_window_takes_nothing_of_the_quota() -> None:
    gateway = Gateway({"on": "enqueued_tokens", "max": 10_000})
    gateway.report()
    with pytest.raises(ApiError):
        gateway.accept(LOAD, 1)
    assert places.enqueued("acme") not in gateway.bucket.objects
    gateway.accept(LOAD, 10)
    with pytest.raises(ApiError) as never:
        gateway.accept(LOAD._replace(tokens=10_001), 60)
    assert (never.value.status, never.value.code) == (400, "token_limit_exceeded")
    other = Gateway({"on": "enqueued_tokens", "max": 1, "key": "another"}, {"on": "open_batches", "max": 1})
    assert other.accept(LOAD, 1) is None


def test_what_is_promised_is_accepted() -> None:
    """Whatever the load: the window that a refusal names would not be refused."""
    measure = Measure(7, 90, T0, "p")
    for lines in (1, 10, 1_000):
        for tokens in (1, 500, 100_000):
            made = capacity.promise(measure, (), "acme", T0, lines, tokens, T0)
            told = acceptance.too_short(made, Window("b", T0, T0 + 1))
            window_s = int(told.message.partition("completion_window of ")[2].partition("s")[0])
            assert not capacity.impossible(made, T0 + 1000 * window_s, T0)
