"""Pausing, resuming and cancelling: alone, and while the batcher writes the same document."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest import batch_document, batch_jobs, batch_object, batch_orders, ids, places
from ingest.batch_document import Document
from ingest.batch_orders import TooLate
from ingest.batch_run import BEAT_MS, BatchRun
from ingest.batch_store import BatchStore
from ingest.batch_validation import Verdict
from tests.unit.contended_bucket import ContendedBucket
from tests.unit.test_batch_progress import BATCH, DOCUMENT, result

ID = ids.newest_first(ids.BATCH, 1, b"x")
FIRST = replace(DOCUMENT, batch=replace(BATCH, id=ID))
PLACE = places.batch("acme", ID)
ORDERS = {"cancel": batch_orders.cancel, "pause": batch_orders.pause, "resume": batch_orders.resume}


def test_a_paused_batch_says_so_and_goes_on() -> None:
    paused = batch_orders.pause(FIRST, 5_000)
    assert paused.private.paused_ms == 5_000 and paused.batch.status == "validating"
    assert paused.batch.millrace is not None and paused.batch.millrace.waiting is not None
    assert (paused.batch.millrace.paused, paused.batch.millrace.waiting.reason) == (True, "paused")
    assert batch_orders.pause(paused, 9_000) is paused, "pausing again changes nothing"
    again = batch_orders.resume(paused, 9_000)
    assert again.private == FIRST.private and again.batch.millrace == batch_object.Progress()
    assert batch_orders.resume(FIRST, 9_000) == FIRST


@pytest.mark.parametrize("status", ["finalizing", "completed", "failed", "expired", "cancelled", "cancelling"])
def test_what_is_about_to_end_is_not_paused(status: batch_object.Status) -> None:
    document = replace(FIRST, batch=replace(FIRST.batch, status=status))
    for order in (batch_orders.pause, batch_orders.resume):
        with pytest.raises(TooLate):
            order(document, 1)


def test_a_paused_run_sends_nothing_but_expires() -> None:
    run = BatchRun(batch_orders.pause(FIRST, 5_000), "e")
    run.judge(Verdict(3, "echo", ()), 101_000)
    assert run.held and run.step() == "feed"
    shown = run.checkpoint(102_000).document.batch
    assert shown.status == "in_progress" and shown.millrace is not None and shown.millrace.paused
    assert run.take(result(1), 103_000), "what runs finishes"
    assert run.expire(FIRST.private.deadline_ms) and run.step() == "sweep" and not run.held


def test_a_cancelled_batch_is_not_paused() -> None:
    document = batch_orders.cancel(batch_orders.pause(FIRST, 5_000), 6_000)
    assert document.batch.status == "cancelling"
    assert document.batch.millrace is not None and not document.batch.millrace.paused
    run = BatchRun(document, "e")
    run.judge(Verdict(3, "echo", ()), 101_000)
    assert run.step() == "sweep" and not run.held


def test_an_order_whose_command_was_lost_is_met_within_half_a_minute() -> None:
    run = BatchRun(FIRST, "e")
    run.judge(Verdict(3, "echo", ()), 101_000)
    run.checkpoint(102_000)
    run.beat(102_000 + BEAT_MS - 1)
    assert not run.dirty
    run.beat(102_000 + BEAT_MS)
    assert run.due


class Site:
    """A batcher's run and a gateway's store on one bucket; what was taken is `paused`, `cancelled`."""

    def __init__(self) -> None:
        self.bucket = ContendedBucket()
        self.store = BatchStore(self.bucket.storage)
        self.store.create(FIRST)
        saved = batch_jobs.claim(self.bucket.storage, "acme", ID, lambda _document: None)
        assert saved is not None
        self.run = BatchRun(saved.document, saved.etag)
        self.run.judge(Verdict(3, "echo", ()), 101_000)
        self.paused = self.cancelled = False
        self.now_ms = 102_000

    def order(self, name: str) -> None:
        """As the gateway does; refused orders change nothing."""
        self.now_ms += 1
        try:
            self.store.order("acme", ID, ORDERS[name], self.now_ms)
        except TooLate:
            return
        if name == "cancel":
            self.cancelled = True
        else:
            self.paused = name == "pause"

    def save(self, orders: list[str], lost: int) -> None:
        """A round of the batcher: orders come while it is under way, and the answers to `lost` puts do not arrive."""
        left = [partial(self.order, name) for name in orders]
        losses = [lost]

        def before(_key: str) -> None:
            while left:
                self.bucket.before_put, hook = (lambda _key: None), self.bucket.before_put
                left.pop(0)()
                self.bucket.before_put = hook

        def lose(key: str) -> bool:
            ours = batch_document.decode(self.bucket.objects[key]).private.revision == self.revision
            losses[0] -= ours
            return ours and losses[0] >= 0

        self.run.urgent = True
        checkpoint = self.run.checkpoint(self.now_ms)
        self.revision = checkpoint.document.private.revision
        self.bucket.before_put, self.bucket.lose = before, lose if lost else (lambda _key: False)
        task: Callable[[], batch_jobs.Saved | None] = partial(
            batch_jobs.save, self.bucket.storage, checkpoint, self.run.etag
        )
        saved = patient(task)
        self.bucket.before_put, self.bucket.lose = (lambda _key: None), (lambda _key: False)
        assert saved is not None
        self.run.stored(saved.document, saved.etag)

    def stored(self) -> Document:
        return batch_document.decode(self.bucket.objects[PLACE])


def patient(task: Callable[[], batch_jobs.Saved | None]) -> batch_jobs.Saved | None:
    """Persist without its pauses."""

    class Never(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    return batch_jobs.persist("saving", task, Never())


names = st.sampled_from(sorted(ORDERS))


@given(st.lists(st.tuples(st.lists(names, max_size=3), st.lists(names, max_size=2), st.integers(0, 2)), max_size=5))
def test_every_order_that_was_taken_reaches_the_batcher(rounds: list[tuple[list[str], list[str], int]]) -> None:
    """Orders between and during the batcher's writes, whose answers get lost now and then."""
    site = Site()
    for before, during, lost in rounds:
        for name in before:
            site.order(name)
        site.save(during, lost)
    site.save([], 0)
    assert (site.run.document.batch.status == "cancelling") == site.cancelled
    assert (site.run.step() == "sweep") == site.cancelled
    assert site.run.held == (site.paused and not site.cancelled)
    site.save([], 0)
    assert site.stored().batch.status == ("cancelling" if site.cancelled else "in_progress")
    shown = site.stored().batch.millrace
    assert shown is not None and shown.paused == (site.paused and not site.cancelled)


@pytest.mark.parametrize("name", ["pause", "resume", "cancel"])
def test_an_order_at_the_end_is_taken_or_refused_and_never_both(name: str) -> None:
    """Finalising and an order meet: whoever writes first is right."""
    site = Site()
    for line in (1, 2, 3):
        site.run.take(result(line), 1)
    site.save([name], 0)
    assert site.run.document.batch.status == ("cancelling" if site.cancelled else "finalizing")
    assert site.cancelled == (name == "cancel") and not site.run.held
    site.save([name], 0)
    late = Site()
    for line in (1, 2, 3):
        late.run.take(result(line), 1)
    late.save([], 0)
    late.order(name)
    assert not late.cancelled and not late.paused and late.stored().batch.status == "finalizing"
