"""What a tenant's batches have waiting: never more than its limit, never refused what fits, whoever dies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest import acceptance, batch_document, enqueued, enqueued_store, ids, places
from ingest.batch_document import Document
from ingest.batch_object import Counts, Status
from ingest.batch_store import BatchStore
from ingest.enqueued import BYTES_A_TOKEN, CREATION_MS, Book, Entry, Full
from schemas import config, config_check
from schemas.limits import Limit
from tests.unit.bucket import Killed
from tests.unit.contended_bucket import ContendedBucket
from tests.unit.test_batch_progress import BATCH, DOCUMENT

MAX = 100
TOKENS = Limit("enqueued_tokens", MAX)
NOW = 1_700_000_000_000


def name(model: str) -> str:
    return {"alias": "real"}.get(model, model)


def batch(number: int, tokens: int, status: Status = "validating", **counts: int) -> Document:
    """A batch's document as it is stored."""
    made = replace(BATCH, id=ids.newest_first(ids.BATCH, number, b"x"), status=status, request_counts=Counts(**counts))
    return Document(made, replace(DOCUMENT.private, enqueued=tokens, created_ms=NOW))


class Site:
    """A bucket, and what a gateway and a batcher do in it."""

    def __init__(self) -> None:
        self.bucket = ContendedBucket()
        self.storage = self.bucket.storage
        self.store = BatchStore(self.storage)

    def reserve(self, document: Document, *limits: Limit, at_ms: int = NOW) -> Full | None:
        entry = Entry(document.private.enqueued, "demo", "m", at_ms)
        limits = limits or (TOKENS,)
        return enqueued_store.reserve(self.storage, "acme", document.batch.id, entry, limits, name, at_ms)

    def create(self, document: Document, *limits: Limit, at_ms: int = NOW) -> Full | None:
        full = self.reserve(document, *limits, at_ms=at_ms)
        if full is None:
            self.store.create(document)
        return full

    def end(self, document: Document, *, tidy: bool) -> None:
        """The batch has ended; `tidy` if its mark is removed too."""
        done = replace(document, batch=replace(document.batch, status="expired"))
        self.storage.put(places.batch("acme", document.batch.id), batch_document.encode(done))
        if tidy:
            self.storage.delete([places.open_batch("acme", document.batch.id)])


def test_bytes_are_counted_as_tokens_rounded_up() -> None:
    assert [enqueued.tokens_of(n) for n in (0, 1, BYTES_A_TOKEN, BYTES_A_TOKEN + 1)] == [0, 1, 1, 2]


def test_the_limit_is_reached_and_not_passed() -> None:
    site = Site()
    assert site.create(batch(1, 60)) is None and site.create(batch(2, 40)) is None
    assert site.create(batch(3, 1)) == Full(TOKENS, MAX, 1)
    assert site.create(batch(2, 40)) is None, "the same one again"
    never = site.create(batch(4, MAX + 1))
    assert never is not None and not never.ever


@pytest.mark.parametrize("tidy", [True, False])
def test_an_end_gives_back_whoever_was_killed_after_it(tidy: bool) -> None:
    site = Site()
    site.create(batch(1, 60))
    assert site.create(batch(2, 60)) is not None
    site.end(batch(1, 60), tidy=tidy)
    assert site.create(batch(2, 60)) is None


def test_lines_that_are_done_count_no_more() -> None:
    site = Site()
    site.create(batch(1, 90))
    run = batch(1, 90, "in_progress", total=3, completed=1, failed=1)
    site.storage.put(places.batch("acme", run.batch.id), batch_document.encode(run))
    assert site.create(batch(2, 71)) == Full(TOKENS, 30, 71) and site.create(batch(2, 70)) is None


def test_of_two_at_the_same_time_one_fits() -> None:
    site, second = Site(), batch(2, 60)
    verdicts: list[Full | None] = []

    def meanwhile(key: str) -> None:
        if key == places.enqueued("acme") and not verdicts:
            verdicts.append(None)
            verdicts[0] = site.create(second)

    site.bucket.before_put = meanwhile
    assert site.create(batch(1, 60)) == Full(TOKENS, 60, 60) and verdicts == [None]


def test_a_creation_that_was_killed_counts_for_a_while() -> None:
    site = Site()
    assert site.reserve(batch(1, 60)) is None
    assert site.create(batch(2, 60)) is not None, "the other one may be about to be stored"
    assert site.create(batch(2, 60), at_ms=NOW + CREATION_MS) is None


def test_a_killed_creation_that_left_its_mark_counts_no_longer() -> None:
    site, killed = Site(), batch(1, 60)
    site.reserve(killed)
    site.storage.put(places.open_batch("acme", killed.batch.id), b"")
    assert site.create(batch(2, 60), at_ms=NOW + CREATION_MS) is None


def test_what_was_created_before_there_was_a_limit_counts() -> None:
    site = Site()
    site.store.create(batch(1, 60))
    assert site.create(batch(2, 60)) == Full(TOKENS, 60, 60)


def test_limits_of_a_model_a_key_and_on_batches() -> None:
    book = Book({"a": Entry(50, "k", "alias", 1), "b": Entry(50, "other", "m", 1)})

    def fits(entry: Entry, limit: Limit) -> bool:
        return isinstance(enqueued.admit(book, "c", entry, [limit], name), Book)

    assert fits(Entry(50, "k", "real", 1), Limit("enqueued_tokens", 100, model="real"))
    assert not fits(Entry(51, "k", "real", 1), Limit("enqueued_tokens", 100, model="real"))
    assert not fits(Entry(51, "k", "alias", 1), Limit("enqueued_tokens", 100, model="alias"))
    assert fits(Entry(99, "k", "n", 1), Limit("enqueued_tokens", 1, model="real")), "it is of another model"
    assert fits(Entry(50, "k", "n", 1), Limit("enqueued_tokens", 100, key="k"))
    assert not fits(Entry(51, "k", "n", 1), Limit("enqueued_tokens", 100, key="k"))
    assert fits(Entry(999, "k", "n", 1), Limit("open_batches", 3))
    assert not fits(Entry(0, "k", "n", 1), Limit("open_batches", 2))


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["create", "kill", "end", "tidy", "late"]), st.integers(0, 9), st.integers(0, MAX)),
    max_size=25,
)


def play(steps: list[Step], admit: Callable[[Site, Document, int], Full | None]) -> None:
    """Creations, kills in their middle and ends, in any order; AssertionError where the limit does not hold."""
    site, now_ms = Site(), NOW
    there: dict[int, Document] = {}
    for what, number, tokens in steps:
        document = there.get(number)
        if what == "late":
            now_ms += CREATION_MS
        elif what in ("end", "tidy") and document is not None:
            site.end(there.pop(number), tidy=what == "tidy")
        elif what in ("create", "kill") and document is None:
            fresh = batch(1000 * now_ms + number + 10 * len(site.bucket.calls), tokens)
            site.bucket.kill_at = 1 + tokens % 7 if what == "kill" else -1
            try:
                full = admit(site, fresh, now_ms)
            except Killed:
                site.bucket.kill_at = -1
                now_ms += CREATION_MS
                if places.batch("acme", fresh.batch.id) in site.bucket.objects:
                    there[number] = fresh
                continue
            site.bucket.kill_at = -1
            used = sum(d.private.enqueued for d in there.values())
            assert (full is None) == (used + tokens <= MAX), (full, used, tokens)
            if full is None:
                there[number] = fresh
        used = sum(d.private.enqueued for d in there.values())
        assert used <= MAX, f"{used} are enqueued"


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_nothing_is_passed_and_nothing_refused_that_fits(steps: list[Step]) -> None:
    play(steps, lambda site, document, now_ms: site.create(document, at_ms=now_ms))


def forgets_the_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueued, "looked_up", lambda book, found, now_ms: book)


def forgets_the_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueued, "CREATION_MS", 10**18)


def counts_nothing_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enqueued, "CREATION_MS", -1)
    monkeypatch.setattr(enqueued_store, "_documents", lambda *_: {})
    monkeypatch.setattr(enqueued, "current", lambda book, marked, now_ms: Book())


@pytest.mark.parametrize("mutant", [forgets_the_ended, forgets_the_killed, counts_nothing_new])
def test_the_same_game_finds_a_planted_fault(monkeypatch: pytest.MonkeyPatch, mutant: Any) -> None:
    mutant(monkeypatch)
    games: list[list[Step]] = [
        [("create", 1, 60), ("create", 2, 60), ("end", 1, 0), ("create", 4, MAX)],
        [("kill", 5, 4), ("late", 0, 0), ("create", 6, MAX)],
    ]
    with pytest.raises(AssertionError):
        for steps in games:
            play(steps, lambda site, document, now_ms: site.create(document, at_ms=now_ms))


def test_a_refusal_says_what_would_fit() -> None:
    load = acceptance.Load(60, 60, 1, "m")
    now = acceptance.does_not_fit(Full(TOKENS, 60, 60), load)
    assert (now.status, now.code, now.headers["x-should-retry"]) == (429, "token_limit_exceeded", "false")
    assert now.headers["x-ratelimit-remaining-enqueued-tokens"] == "40" and "60" in now.message
    never = acceptance.does_not_fit(Full(TOKENS, 0, 101), acceptance.Load(101, 101, 1, "m"))
    assert (never.status, never.code, never.param) == (400, "token_limit_exceeded", "input_file_id")
    open_ = acceptance.does_not_fit(Full(Limit("open_batches", 2), 2, 1), load)
    assert (open_.status, open_.code) == (429, "batch_limit_exceeded")


def test_such_limits_are_not_admissions() -> None:
    data: dict[str, Any] = {"tenants": {"acme": {"limits": [{"on": "enqueued_tokens", "max": 5}]}}}
    document = config.document(config_check.parse(data))
    assert config.policy_of(document, "acme").limits == () and document.settings["acme"].limits[0].max == 5
    data["tenants"]["acme"]["limits"][0]["per"] = "day"
    with pytest.raises(config.ConfigError, match="enqueued_tokens"):
        config_check.parse(data)
