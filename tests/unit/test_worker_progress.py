"""Watermarks, buffers, shares and memories of a worker."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers import share, watermark
from workers.buffer import Buffer
from workers.cancellations import Cancellations
from workers.recent import Recent
from workers.watermark import WINDOW, Watermark


def test_the_watermark_stops_at_the_first_unfinished() -> None:
    mark = Watermark(10)
    for offset in (10, 11, 13, 14):  # 12 is a gap, such as a transaction's marker.
        assert mark.take(offset)
    mark.finish(13)
    assert mark.commit()[0] == 10
    mark.finish(10)
    mark.finish(11)
    assert mark.low == 14
    mark.finish(14)
    assert mark.commit() == (15, "") and not mark.dirty


def test_a_restart_skips_what_had_finished_beyond() -> None:
    mark = Watermark(0)
    for offset in range(6):
        mark.take(offset)
    for offset in (1, 2, 4):
        mark.finish(offset)
    low, metadata = mark.commit()
    again = Watermark(low, *watermark.parse(low, metadata))
    assert [o for o in range(low, 7) if again.take(o)] == [0, 3, 5, 6]
    again.finish(0)
    assert again.low == 3


def test_a_stale_or_foreign_metadata_skips_nothing() -> None:
    for metadata in (None, "", "hello", "1:§§", "1:§§:a/1/2/3/", "1::a/b/c", "1::a/1/2/3/4.x"):
        skip, suspicion = watermark.parse(5, metadata)
        assert not skip and not suspicion.suspects(5, 0) and suspicion.owner == ""


def test_offsets_read_twice_are_taken_once() -> None:
    mark = Watermark(0)
    assert mark.take(0) and not mark.take(0)


def test_metadata_fits_even_when_all_but_the_first_have_finished() -> None:
    mark = Watermark(0)
    for offset in range(40_000):
        mark.take(offset)
        if offset:
            mark.finish(offset)
    low, metadata = mark.commit()
    assert low == 0 and len(metadata) <= 4_096
    assert len(watermark.parse(low, metadata)[0]) >= 11_000


def test_reading_pauses_when_the_window_is_full_and_resumes_with_room() -> None:
    mark = Watermark(0)
    for offset in range(WINDOW):
        assert not mark.crowded
        mark.take(offset)
    assert mark.crowded and not mark.roomy
    for offset in range(WINDOW // 2):
        mark.finish(offset)
    assert mark.roomy


@given(st.lists(st.integers(0, 60), unique=True, max_size=60), st.data())
def test_any_order_of_finishing_commits_the_contiguous_part(offsets: list[int], data: st.DataObject) -> None:
    offsets.sort()
    mark = Watermark(0)
    for offset in offsets:
        mark.take(offset)
    done = data.draw(st.lists(st.sampled_from(offsets), unique=True)) if offsets else []
    for offset in done:
        mark.finish(offset)
    low, metadata = mark.commit()
    left = [o for o in offsets if o not in done]
    assert low == (left[0] if left else offsets[-1] + 1 if offsets else 0)
    again = Watermark(low, *watermark.parse(low, metadata))
    assert [o for o in offsets if o >= low and again.take(o)] == left


def test_a_buffer_pauses_high_and_resumes_low() -> None:
    buffer: Buffer[int] = Buffer(high=4, low=2, high_bytes=1_000)
    for n in range(4):
        assert not buffer.paused
        buffer.put(n, 1)
    assert buffer.paused
    assert buffer.take() == 0 and buffer.paused
    buffer.take()
    assert not buffer.paused
    buffer.put(9, 2_000)
    assert buffer.paused
    buffer.keep(lambda n: n != 9)
    assert not buffer.paused and len(buffer) == 2


@given(st.integers(1, 500), st.permutations(range(4)), st.integers(0, 4))
def test_the_parts_of_all_workers_add_up(concurrency: int, order: list[int], cut: int) -> None:
    parts = [share.slots(concurrency, order[:cut]), share.slots(concurrency, order[cut:])]
    assert sum(parts) == concurrency == share.slots(concurrency, range(4))


def test_a_small_pool_has_slots_only_on_its_first_partitions() -> None:
    assert [share.slots(2, [p]) for p in range(4)] == [1, 1, 0, 0]


def test_memories_are_bounded_by_number_and_age() -> None:
    recent: Recent[int, str] = Recent(age_ms=100, capacity=2)
    for n in range(3):
        recent.add(n, "x", now_ms=n)
    assert len(recent) == 2 and recent.get(0, 3) is None and recent.get(1, 3) == "x"
    assert recent.get(1, 102) is None


def test_a_cancellation_does_not_stop_what_was_admitted_after_it() -> None:
    cancellations = Cancellations()
    cancellations.note({"tenant": "t", "request_id": "r", "reason": "cancelled", "at": 50}, now_ms=50)
    assert cancellations.reason("t", "r", admitted_at=49, now_ms=60) == "cancelled"
    assert cancellations.reason("t", "r", admitted_at=51, now_ms=60) is None
    assert cancellations.reason("other", "r", admitted_at=49, now_ms=60) is None
