"""What a worker counts and tells: histograms, the measured rate, what waits and how urgent it is, and its text."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schemas.config import Pool
from workers.endpoint import Exposition, buckets
from workers.engines import Setting
from workers.item import Item
from workers.partitions import Partitions
from workers.reading import DueReading, at_risk, groups, take
from workers.signals import MEMORY_S, TOKEN_S, WAIT_S, Histogram, Signals
from workers.station import Station
from workers.watermark import Watermark

NOW = 1_000_000


def work(**fields: Any) -> Any:
    return {"pool": "p", "lane": "batch", "admitted_at": NOW - 500, "deadline": 0, **fields}


def record(**fields: Any) -> Any:
    base = {"outcome": "ok", "started_at": NOW, "first_token_at": NOW + 100, "finished_at": NOW + 1_000}
    return {**base, "input_tokens": 30, "output_tokens": 10, "cached_tokens": 5, **fields}


def ended(signals: Signals, lane: str = "batch", **fields: Any) -> None:
    how = {"fault": "", "ran": True, "slots": 4}
    how |= {name: fields.pop(name) for name in list(fields) if name in how}
    item = Item(work(lane=lane), ("t", "r", 0), station(), [], stops=fields.pop("stops", 0))
    if fields.pop("pieces", True):
        item.seen.assembly.add({"choices": [{"index": 0, "delta": {"content": "x"}}]})
    signals.ended(item, record(**fields), **how)


@given(st.lists(st.floats(0, 1_000), max_size=50))
def test_a_value_lies_in_the_first_bucket_that_holds_it(values: list[float]) -> None:
    histogram = Histogram(WAIT_S)
    for value in values:
        histogram.add(value)
    for bound, count in buckets(histogram):
        assert count == sum(value <= float(bound) for value in values)
    assert histogram.total == pytest.approx(sum(values))


@pytest.mark.parametrize(("bounds", "first", "last"), [(WAIT_S, 0.001, 100.0), (TOKEN_S, 0.0001, 10.0)])
def test_buckets_are_fine_enough_for_a_99th_percentile(bounds: tuple[float, ...], first: float, last: float) -> None:
    assert (bounds[0], bounds[-1]) == (first, last)
    assert all(1.2 < b / a < 1.3 for a, b in itertools.pairwise(bounds))


def test_an_answer_is_counted_once_everywhere() -> None:
    signals = Signals()
    ended(signals)
    lane = signals.lanes["batch"]
    assert (lane.attempts, lane.input_tokens, lane.output_tokens, lane.cached_tokens) == (1, 30, 10, 5)
    assert (lane.outcomes, lane.faults) == ({"ok": 1}, {})
    assert (lane.queue.total, lane.first_token.total, lane.per_token.total) == (0.5, 0.1, pytest.approx(0.1))
    assert signals.tokens_per_s(4) == 160
    assert (signals.tokens_each("batch"), signals.tokens_each("interactive")) == (40, 40)


def test_what_never_ran_or_came_whole_tells_nothing_of_times() -> None:
    signals = Signals()
    ended(signals, ran=False, outcome="expired", fault="request_timeout", input_tokens=0, output_tokens=0)
    ended(signals, pieces=False)
    lane = signals.lanes["batch"]
    assert (lane.attempts, lane.outcomes, lane.faults) == (1, {"expired": 1, "ok": 1}, {"request_timeout": 1})
    assert sum(lane.first_token.counts) == sum(lane.per_token.counts) == 0
    assert sum(lane.queue.counts) == 1


def test_the_rate_follows_a_machine_that_became_slower() -> None:
    signals = Signals()
    for took_ms in [1_000] * 1_000 + [4_000] * 1_000:
        ended(signals, finished_at=NOW + took_ms)
    assert 40 <= signals.tokens_per_s(4) <= 44
    assert MEMORY_S * 4 / 4 < 1_000, "the second half is far longer than the memory"


def test_what_was_stopped_is_counted_and_does_not_tell_the_rate() -> None:
    signals = Signals()
    signals.stopped("batch")
    ended(signals, stops=1)
    assert signals.lanes["batch"].preemptions == signals.lanes["batch"].attempts == 1
    assert signals.tokens_per_s(4) == 0


def test_a_lane_that_is_not_known_is_not_counted() -> None:
    signals = Signals()
    ended(signals, lane="express")
    assert signals.tokens_per_s(4) == 0


@given(st.integers(0, 50), st.integers(0, 100), st.sets(st.integers(0, 49)))
def test_a_partition_counts_what_is_unread_and_what_is_unfinished(read: int, unread: int, finished: set[int]) -> None:
    mark = Watermark(10)
    for offset in range(10, 10 + read):
        mark.take(offset)
    done = {offset for offset in finished if offset < read}
    for offset in done:
        mark.finish(10 + offset)
    end = 10 + read + unread
    assert mark.unread(end) == unread
    assert mark.unfinished(end) == read + unread - len(done)
    # An end that is older than what was read since.
    assert (mark.unread(0), mark.unfinished(0)) == (0, read - len(done))


def test_deadlines_that_cannot_be_kept_are_at_risk() -> None:
    # 100 tokens each at 1,000 a second: the third ends after 300 ms.
    assert at_risk([100, 200, 299], 100, 1_000) == 1
    assert at_risk([99, 199, 300], 100, 1_000) == 2
    assert at_risk([-1, 5], 100, 0) == 1


@given(st.lists(st.integers(-(10**6), 10**6), max_size=200).map(sorted), st.integers(0, 100))
def test_groups_never_make_a_deadline_later_or_lose_tokens(slacks: list[int], unread: int) -> None:
    found = groups(slacks, 7.0, unread)
    assert len(found) <= 33
    assert sum(due.tokens for due in found) == 7 * (len(slacks) + unread if slacks else 0)
    for slack in slacks:
        assert sum(d.tokens for d in found if d.slack_ms <= slack) >= 7 * sum(s < slack for s in slacks)


def station() -> Station:
    found = Station(Setting("p", Pool(engine="echo", concurrency=8), 100))
    found.lanes.slots = 4
    return found


def world() -> tuple[Station, list[Item], Partitions]:
    one, partitions = station(), Partitions("me")
    ended(one.signals)
    partitions._marks["work.p.batch", 0] = mark = Watermark(0)
    items = []
    for offset, deadline in enumerate((NOW + 5_000, NOW + 2_000, 0)):
        mark.take(offset)
        items.append(Item(work(deadline=deadline), ("t", str(offset), 0), one, [(mark, offset)]))
    one.lanes.start("batch", NOW)
    return one, items, partitions


def test_a_reading_tells_what_waits_and_how_urgent_it_is() -> None:
    one, items, partitions = world()
    found = take("worker-1", {"p": one}, items, partitions, {("work.p.batch", 0): 10}, NOW).pools["p"]
    lane = found.lanes["batch"]
    assert (found.slots, found.tokens_per_s) == (4, 160)
    assert (lane.backlog, lane.unread, lane.waiting, lane.busy) == (10, 7, 3, 1)
    assert (lane.oldest_ms, lane.slack_ms, lane.at_risk, lane.tokens) == (500, 2_000, 0, 400)
    assert lane.due == (DueReading(2_000, 40), DueReading(5_000, 40), DueReading(5_000, 280))
    assert found.lanes["interactive"].slack_ms is None


def test_the_text_is_what_prometheus_reads() -> None:
    one, items, partitions = world()
    registry = CollectorRegistry()
    registry.register(Exposition(take("w", {"p": one}, items, partitions, {}, NOW), {"p": one}))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert samples["millrace_worker_waiting_records", "batch", "p"] == 3
    assert samples["millrace_worker_deadline_slack_seconds", "batch", "p"] == 2
    assert ("millrace_worker_deadline_slack_seconds", "interactive", "p") not in samples
    assert samples["millrace_worker_completions_total", "batch", "ok", "p"] == 1
    assert samples["millrace_worker_queue_wait_seconds_count", "batch", "p"] == 1
    assert samples["millrace_worker_queue_wait_seconds_bucket", "0.398", "batch", "p"] == 0
    assert samples["millrace_worker_queue_wait_seconds_bucket", "0.501", "batch", "p"] == 1
    assert samples["millrace_worker_slots", "p"] == 4
