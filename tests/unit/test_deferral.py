"""Batch lines over quota: in order within their batch, in turn between batches, bounded."""

import pytest

from streams import entry, waiting
from streams.deferral import SLOTS, slot_of
from tests.unit.world import T0, cancellation, completion, engine, line, rows

MINUTE = 60_000
BATCHES = ("batch_a", "batch_b", "batch_c")


def lines_of(batch, count, **more):
    return [line(i, f"{batch} {i}", **more) | {"batch_id": batch} for i in range(1, count + 1)]


def tick(e, at):
    e.step("Tick", {"tenant": "", "partition": 0}, at)


def test_batches_go_in_turn_and_each_in_its_order():
    assert len({slot_of(b) for b in BATCHES}) == 3
    e = engine([{"on": "requests", "per": "minute", "max": 6}])
    for r in (*lines_of("batch_a", 10), *lines_of("batch_b", 4), *lines_of("batch_c", 2)):
        e.step("Request", r, T0)
    tick(e, T0 + MINUTE)
    tick(e, T0 + 2 * MINUTE)
    work = [(w["batch_id"], w["line"]) for w in e.read_work()]
    first, second, third = work[:6], work[6:12], work[12:]
    assert first == [("batch_a", i) for i in range(1, 7)], "nobody else was there yet"
    assert {b for b, _ in second} == set(BATCHES) and sorted(second) == sorted(
        [("batch_a", 7), ("batch_a", 8), ("batch_b", 1), ("batch_b", 2), ("batch_c", 1), ("batch_c", 2)]
    )
    assert sorted(third) == [("batch_a", 9), ("batch_a", 10), ("batch_b", 3), ("batch_b", 4)]
    for batch in BATCHES:
        numbers = [n for b, n in work if b == batch]
        assert numbers == sorted(numbers)


def test_a_batch_held_by_a_narrow_limit_holds_up_no_other():
    narrow = {"on": "concurrency", "max": 1, "model": "two"}
    e = engine([narrow, {"on": "requests", "per": "minute", "max": 2}])
    for r in (*lines_of("batch_a", 3, model="two"), *lines_of("batch_b", 3)):
        e.step("Request", r, T0)
    for minute in (1, 2):
        tick(e, T0 + minute * MINUTE)
    work = [(w["batch_id"], w["line"]) for w in e.read_work()]
    assert [line for batch, line in work if batch == "batch_a"] == [1], "the first of them never ends"
    assert [line for batch, line in work if batch == "batch_b"] == [1, 2, 3]


def test_one_reminder_whatever_number_waits():
    e = engine([{"on": "requests", "per": "day", "max": 1}])
    for r in lines_of("batch_a", 500):
        e.step("Request", r, T0)
    reminders = b"".join(e.stores["acme"].pages.values.values()).count(b"*window")
    assert reminders <= 2 and e.tenant("acme").deferral.count == 499


def test_releases_at_one_moment_are_bounded():
    e = engine([{"on": "requests", "per": "minute", "max": 300}])
    for r in lines_of("batch_a", 600):
        e.step("Request", r, T0)
    before = len(e.read_work())
    tick(e, T0 + MINUTE)
    assert len(e.read_work()) - before == waiting.RELEASES_AT_ONCE
    for second in range(1, 4):
        tick(e, T0 + MINUTE + 1_000 * second)
    assert len(e.read_work()) == 600


@pytest.mark.parametrize(("bound", "value"), [("MAX_DEFERRED", 5), ("MAX_DEFERRED_BYTES", 700)])
def test_what_waits_is_bounded_in_count_and_bytes(bound, value, monkeypatch):
    monkeypatch.setattr(entry, bound, value)
    e = engine([{"on": "requests", "per": "day", "max": 1}])
    lines = lines_of("batch_a", 20)
    for r in lines:
        e.step("Request", r, T0)
    full = [r for r in rows(e).values() if r["error_code"] == "deferred_full"]
    waiting_now = e.tenant("acme").deferral
    assert len(full) == 19 - waiting_now.count > 0
    assert waiting_now.count <= 5 if bound == "MAX_DEFERRED" else waiting_now.size <= value


def test_more_batches_than_queues_all_end():
    e = engine([{"on": "requests", "per": "second", "max": 3}])
    asked = [r for i in range(3 * SLOTS) for r in lines_of(f"batch_{i}", 2)]
    for r in asked:
        e.step("Request", r, T0)
    for second in range(1, len(asked)):
        tick(e, T0 + 1_000 * second)
    work = e.read_work()
    assert len(work) == len(asked) == len({w["request_id"] for w in work})
    for w in work:
        e.step("Completion", completion(w), T0 + 1_000_000)
    assert {r["status"] for r in rows(e).values()} == {"completed"}
    assert e.tenant("acme").deferral.count == e.tenant("acme").deferral.size == 0


def test_lines_cancelled_while_they_wait_keep_no_place_from_others():
    e = engine([{"on": "requests", "per": "day", "max": 1}, {"on": "requests", "per": "day", "max": 0, "model": "two"}])
    lines = lines_of("batch_a", 3_000)
    for r in lines:
        e.step("Request", r, T0)
    for r in lines[1:]:
        e.step("Cancellation", cancellation(r), T0 + 1)
    queues = e.tenant("acme").deferral
    assert (queues.count, queues.size) == (0, 0)


def test_a_cancelled_line_makes_room_for_the_smaller_one_behind_it():
    e = engine([{"on": "total_tokens", "per": "month", "max": 50}])
    first, large, small = (line(i, body={"max_tokens": n}) for i, n in ((1, 20), (2, 40), (3, 10)))
    for r in (first, large, small):
        e.step("Request", r, T0)
    assert [w["line"] for w in e.read_work()] == [1]
    e.step("Cancellation", cancellation(large), T0 + 1)
    assert [w["line"] for w in e.read_work()] == [1, 3]


def test_what_waits_for_a_slot_wakes_nobody_every_second():
    e = engine([{"on": "concurrency", "max": 1}])
    for r in lines_of("batch_a", 5):
        e.step("Request", r, T0)
    woken = [m for m in range(T0, T0 + 120_000, 1_000) if e.tenant("acme").agenda.due(m) and not tick(e, m)]
    assert len(woken) <= 4
