"""How many lines of batches go ahead, whose turn it is, and what they are called."""

from __future__ import annotations

import uuid
from collections import deque

import pytest

from ingest import ahead, ids, window, work_tail
from ingest.ahead import Ahead
from ingest.window import Rate
from schemas import catalogue
from schemas.wire import Codec


def test_the_window_follows_the_results() -> None:
    assert [window.limit(8, r) for r in (0, 2, 10, 100, 5000)] == [16, 20, 36, 216, 1516]
    assert [window.limit(256, r) for r in (0, 10)] == [512, 532]
    assert window.limit(5_000, 100_000) == window.MAX_OPEN
    rate = Rate()
    for at in range(0, 1000, 10):
        rate.add(1, at)
    assert rate.per_second(1000) == 50
    assert rate.per_second(2500) < 50
    assert rate.per_second(9000) == 0


@pytest.mark.parametrize("per_ms", [1, 3, 20])
def test_few_lines_are_ahead_of_admission(per_ms: int) -> None:
    """A model of admission that takes `per_ms` lines a millisecond, 10 ms after each was sent at the earliest."""
    gauge, queue, sent = Ahead(), deque[tuple[int, str]](), 0
    most, done = 0, 0
    for now in range(20_000):
        if now % window.SLICE_MS == 0:
            room = gauge.room(now)
            for _ in range(max(0, min(room, window.slice_lines(gauge.per_second(now))))):
                gauge.sent(str(sent), "b", now)
                queue.append((now, str(sent)))
                sent += 1
        for _ in range(per_ms):
            if queue and queue[0][0] + 10 <= now:
                gauge.seen(queue.popleft()[1], now)
                done += 1
        most = max(most, len(queue))
    assert done > 0.8 * 20_000 * per_ms, "admission is kept busy, however fast it is"
    assert most <= max(ahead.MIN_AHEAD, per_ms * (ahead.AHEAD_MS + 10)), "and nobody waits long behind the batch"


def test_slices_do_not_grow_before_admission_is_faster() -> None:
    assert [window.slice_lines(r) for r in (0, 2_400, 3_200, 15_000)] == [64, 64, 64, 300]


def test_request_ids_are_uuids_of_version_5() -> None:
    for number in range(1, 200):
        expected = uuid.uuid5(uuid.UUID("6d1b7f0e-2f83-5a51-9d53-0c4f2b9f7c11"), f"batch_1:{number}")
        assert ids.request_id("batch_1", number) == str(expected)


def test_parked_lines_do_not_stop_the_others() -> None:
    gauge = Ahead()
    for n in range(ahead.MIN_AHEAD):
        gauge.sent(str(n), "b", 0)
    assert gauge.room(ahead.PARKED_MS - 1) == 0 == gauge.parked("b")
    assert gauge.room(ahead.PARKED_MS) == ahead.MIN_AHEAD == gauge.parked("b")
    gauge.seen("never sent", 5)
    assert len(gauge) == 0


def test_a_parked_line_is_so_until_it_is_seen_or_its_batch_is_gone() -> None:
    gauge = Ahead()
    for n in range(4):
        gauge.sent(str(n), "b" if n else "a", 0)
    gauge.room(ahead.PARKED_MS)
    assert (gauge.parked("a"), gauge.parked("b"), gauge.parked("c")) == (1, 3, 0)
    gauge.seen("1", ahead.PARKED_MS + 1)
    gauge.sent("2", "b", ahead.PARKED_MS + 1)
    assert gauge.parked("b") == 1 and len(gauge) == 1
    gauge.forget_others({"b"})
    assert (gauge.parked("a"), gauge.parked("b")) == (0, 1)


def test_the_id_of_a_work_record() -> None:
    codec = Codec.offline()
    work = {f["name"]: "" for f in catalogue.raw("Work")["fields"]} | {"body": b"", "stream": False, "announce": False}
    numbers = ("step", "max_input_tokens", "max_output_tokens", "admitted_at", "start_by", "deadline", "line")
    for tenant in ("a", "t" * 200):
        record = {**work, **dict.fromkeys(numbers, 1), "tenant": tenant, "request_id": "0-1-2"}
        assert work_tail.request_id(codec.encode("Work", record)) == "0-1-2"


def test_turns_go_round() -> None:
    assert window.turns(["c", "a", "b"], "a") == ["b", "c", "a"]
    assert window.turns(["a", "c"], "b") == ["c", "a"]


def test_ids_sort_newest_first() -> None:
    older, newer = ids.newest_first(ids.BATCH, 1000, b"x"), ids.newest_first(ids.BATCH, 2000, b"x")
    assert newer < older and ids.is_id(ids.BATCH, newer)
    assert not any(ids.is_id(ids.BATCH, bad) for bad in ("batch_1", "../etc", older + "/", older.upper()))
    assert ids.request_id(older, 1) == ids.request_id(older, 1) != ids.request_id(older, 2)


def test_partitions_are_those_of_java() -> None:
    # Values of org.apache.kafka.common.utils.UtilsTest.testMurmur2 (as unsigned, positive).
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    for key, value in known.items():
        assert ids.partition(key.decode(), 1_000_003) == (value & 0x7FFFFFFF) % 1_000_003


def test_what_takes_no_time_has_few_lines_open_and_what_takes_long_fills_its_slots() -> None:
    assert [window.limit(256, r, 1.0) for r in (0, 50, 100, 1_500)] == [16, 102, 202, 454]
    # 256 slots, ten seconds a line.
    assert window.limit(256, 25.6, 10_000.0) == 2 * 256 + 51
    # As many as its slots are never too few for those that are at work.
    for slots, need_ms in ((8, 2_000.0), (300, 300.0), (24, 1_300.0)):
        assert window.limit(slots, 1000 * slots / need_ms, need_ms) >= 2 * slots


@pytest.mark.parametrize(("slots", "need_ms"), [(8, 2_000), (24, 1_300), (256, 300), (256, 1)])
def test_a_pool_is_found_out_and_kept_busy(slots: int, need_ms: int) -> None:
    """A model of a pool: each line holds one of its slots for `need_ms`, and takes 60 ms more to come back."""
    rate, need, free = Rate(), window.Need(), slots
    waiting, running, travelling = 0, deque[int](), deque[int]()
    opened = done = 0
    for now in range(0, 30_000, 5):
        while travelling and travelling[0] <= now:
            travelling.popleft()
            rate.add(1, now)
            need.add(need_ms)
            opened, done = opened - 1, done + (now >= 15_000)
        while running and running[0] <= now:
            running.popleft()
            travelling.append(now + 60)
            free += 1
        more = max(0, window.limit(slots, rate.per_second(now), need.ms) - opened)
        opened, waiting = opened + more, waiting + more
        while free and waiting:
            free, waiting = free - 1, waiting - 1
            running.append(now + need_ms)
    most = min(15_000 / need_ms * slots, 15 * window.WAY_LINES / 0.06)
    assert done > 0.9 * most


def test_a_tenant_has_its_share_though_another_has_filled_the_room() -> None:
    room = window.Room(100)
    room.take("many", 100)
    assert room.left == 0 and not room.allows("many")
    room.take("few", 0)
    for _ in range(50):
        assert room.allows("few") and not room.allows("many")
        room.take("few")
    assert not room.allows("few") and room.left == -50
    assert not window.Room().allows("any")
