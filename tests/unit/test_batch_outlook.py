"""Why a batch waits and when it is done; what the pools were measured to do."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import acceptance, capacity
from ingest.batch_models import Models
from ingest.batch_outlook import Facts, outlook, suspected
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from ingest.batch_watch import Pace, Watch
from ingest.capacity import DOUBT, KEPT_MS, STARTING_MS, Measure, Meter, Queue, Report
from schemas import config, config_check
from schemas.limits import Limit
from tests.unit.test_batch_progress import DOCUMENT

NOW = 1_700_000_030_000
MINUTE, DAY = Limit("requests", 100, "minute"), Limit("total_tokens", 5_000, "day")


def facts(**changes: Any) -> Facts:
    """A batch of 1,000 lines, whose first ones are with a pool that has not answered yet."""
    known: dict[str, Any] = {
        "left": 1_000, "unsent": 900, "open": 100, "parked": 0, "pace": 0.0, "moved_ms": 0, "paused": False,
        "room": 10, "ahead": 0, "tenants": 1, "capacity": 0.0, "limits": (), "prepaid": False, "tokens_a_line": 0.0,
        "down": (),
    }  # fmt: skip
    return Facts(**{**known, **changes})


def reason(**changes: Any) -> str | None:
    waiting = outlook(facts(**changes), NOW).waiting
    return waiting.reason if waiting else None


def test_every_reason() -> None:
    assert reason(pace=50.0, moved_ms=NOW - 100) is None
    assert reason(paused=True, pace=50.0, moved_ms=NOW) == "paused"
    assert reason(down=("r1",), parked=5) == "pool_unavailable"
    assert reason(parked=5, limits=(MINUTE,)) == "quota" == reason(parked=5, prepaid=True)
    assert reason(parked=5) == "admission", "without a limit it cannot be quota"
    assert reason(open=0, ahead=7) == "other_batches_first"
    assert reason(open=0, room=0) == "capacity" == reason()
    assert reason(left=0) is None


def test_a_slow_pool_is_not_called_stuck_between_two_lines() -> None:
    assert reason(pace=0.2, moved_ms=NOW - 15_000) is None
    assert reason(pace=0.2, moved_ms=NOW - 25_000) == "capacity"


def test_when_it_will_be_done() -> None:
    assert outlook(facts(pace=50.0, moved_ms=NOW), NOW).done_ms == NOW + 20_000
    assert outlook(facts(), NOW).done_ms is None, "nothing is known of the pool"
    assert outlook(facts(capacity=100.0), NOW).done_ms == NOW + 10_000
    assert outlook(facts(capacity=100.0, ahead=1_000, tenants=2, open=0), NOW).done_ms == NOW + 40_000
    assert outlook(facts(paused=True, capacity=100.0), NOW).done_ms is None


def test_quota_says_which_limit_and_when_its_window_opens() -> None:
    now = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000 + 12 * 3_600_000 + 50_000
    held = facts(parked=64, limits=(MINUTE, DAY), moved_ms=now - 20_000, tokens_a_line=10.0)
    waiting, done_ms = outlook(held, now)
    assert waiting is not None and waiting.until == (now + 10_000) // 1000
    assert "100 requests per minute or 5000 total_tokens per day" in waiting.message
    # 500 lines a day: two more days' windows are needed, and this one is used up.
    midnight = now - now % 86_400_000 + 86_400_000
    assert done_ms == midnight + 86_400_000
    later = outlook(held._replace(moved_ms=now - 90_000), now)
    assert later.waiting is not None and later.waiting.until == midnight // 1000
    assert "minute" not in later.waiting.message, "a minute has begun since, and nothing went through"
    alone = outlook(facts(parked=64, limits=(MINUTE,), moved_ms=now - 1), now)
    assert alone.done_ms == now + 10_000 + 9 * 60_000


def test_a_balance_and_a_concurrency_have_no_window() -> None:
    waiting, done_ms = outlook(facts(parked=1, prepaid=True), NOW)
    assert waiting is not None and waiting.until is None and "prepaid balance" in waiting.message and done_ms is None
    both = outlook(facts(parked=1, limits=(Limit("concurrency", 4),)), NOW)
    assert both.waiting is not None and "4 concurrency at once" in both.waiting.message and both.done_ms is None


@given(st.lists(st.sampled_from([MINUTE, DAY, Limit("concurrency", 1)]), min_size=1), st.integers(0, NOW))
def test_some_limit_is_always_suspected(limits: list[Limit], moved_ms: int) -> None:
    assert set() < set(suspected(tuple(limits), moved_ms, NOW)) <= set(limits)


def test_the_pace_is_that_of_the_last_minute() -> None:
    pace = Pace()
    assert pace.add(0, 0, 0) == (0, 0) and pace.per_second == 0
    for second in range(1, 100):
        assert pace.add(10 * second, 30 * second, 1000 * second) == (10, 30)
    assert pace.per_second == 10
    for second in range(100, 200):
        pace.add(990, 2970, 1000 * second)
    assert pace.per_second == 0
    pace.add(1_000, 3_000, 200_000)
    assert 0 < pace.per_second <= 10


def test_capacity_is_measured_only_under_pressure() -> None:
    meter = Meter()
    for _ in range(9):
        meter.add(1_000, 50, 500, pressed=True)
    assert meter.measure(9, "p") is None
    meter.add(1_000, 50, 500, pressed=True)
    assert meter.measure(10, "p") == Measure(50, 500, 10, "p")
    meter.add(1_000, 3, 30, pressed=False)
    assert meter.measure(11, "p") is None, "the end of a batch is no measure"
    for _ in range(20):
        meter.add(1_000, 0, 0, pressed=True)
    assert meter.measure(31, "p") is None


class Told(NamedTuple):
    """As much of a batch as its pools' measure looks at, and what a watch that sees it every second measured."""

    progress: tuple[int, int]
    id: str = "b"
    document: Any = SimpleNamespace(batch=SimpleNamespace(model="m"))
    all_sent: bool = False
    held: bool = False


def measured(*spans_ms: int, lines: int = 50) -> Measure | None:
    """After looks of `spans_ms`, with so many lines ended at each."""
    watch = Watch(cast(Any, None), cast(Any, None), "batcher", cast(Any, NoParked()), lambda: None, cast(Any, None))
    models, done = cast(Any, SimpleNamespace(real=str, fingerprint=lambda _: "p")), 0
    for number, span_ms in enumerate(spans_ms):
        watch._measure([cast(Any, Told((done := done + lines, 0)))], models, span_ms, NOW + number)
    return watch._measures.get("m")


class NoParked:
    """No line waits in admission."""

    def parked(self, batch_id: str) -> int:
        return 0


def test_a_batcher_that_was_held_up_measures_no_pool() -> None:
    second = [1_000] * 11
    good = measured(*second)
    assert good is not None and 45 < good.lines_per_second <= 50
    assert measured(NOW, *second) is not None
    assert measured(*second[:9], 5_000, *second[:9]) is None, "anew after it"
    found = measured(*second, 30_000, *second)
    assert found is not None and found.lines_per_second == 50, "what ended meanwhile does not count"


@pytest.mark.parametrize(("span_ms", "counts"), [(1_000, True), (4_999, True), (5_000, False), (NOW, False)])
def test_a_look_that_is_too_late_counts_for_nothing(span_ms: int, counts: bool) -> None:
    meter = Meter()
    for each_ms in (*[1_000] * 10, span_ms):
        meter.add(each_ms, 50, 500, pressed=True)
    assert (meter.measure(NOW, "p") is not None) == counts


def test_a_measure_of_nothing_is_none() -> None:
    reports = [Report({"m": Measure(0.0, 0.0, NOW, "p")})]
    assert capacity.together(reports, "m", "p", NOW) is None


def test_what_batchers_measured_adds_up() -> None:
    reports = [
        Report({"m": Measure(10, 100, NOW, "p"), "n": Measure(1, 1, NOW, "p")}),
        Report({"m": Measure(20, 200, NOW, "p")}),
        Report({"m": Measure(99, 999, NOW, "other pools")}),
    ]
    assert capacity.together(reports, "m", "p", NOW) == Measure(30, 300, NOW, "p")
    assert capacity.together(reports, "x", "p", NOW) is None
    assert capacity.together(reports, "m", "p", NOW + KEPT_MS) is None


RATE = Measure(10, 1_000, NOW, "p")
SOON, LATER = NOW + 1_000_000, NOW + 2_000_000


def done_s(lines: int, tokens: int, *queues: Queue, rate: Measure = RATE) -> tuple[float, float]:
    made = capacity.promise(rate, queues, "acme", LATER, lines, tokens, NOW)
    return (made.earliest_ms - NOW) / 1000, round((made.safe_ms - NOW - STARTING_MS) / DOUBT / 1000, 2)


def test_what_can_be_promised() -> None:
    assert done_s(100, 10_000) == (10, 10)
    assert done_s(100, 50_000) == (10, 50), "its lines may be longer than those that were measured"
    assert done_s(100, 1_000) == (1, 10), "or shorter"
    assert done_s(100, 1_000, rate=Measure(10, 0, NOW, "p")) == (10, 10)
    first = Queue("acme", SOON, 200)
    assert done_s(100, 10_000, first) == (30, 30)
    assert done_s(100, 10_000, Queue("acme", LATER + 1, 200)) == (10, 10), "what is due later waits for this one"
    # Two others take turns with it: one has less than this one, one has much more.
    assert done_s(100, 10_000, Queue("globex", LATER + 1, 50), Queue("third", SOON, 9_999)) == (25, 25)
    assert done_s(100, 10_000, first, Queue("third", SOON, 9_999)) == (60, 60)


def test_a_window_is_refused_only_beyond_doubt() -> None:
    made = capacity.promise(RATE, (), "acme", NOW + 10_000, 100, 10_000, NOW)
    assert not capacity.impossible(made, NOW + 10_000, NOW) and not capacity.impossible(made, NOW + 8_000, NOW)
    assert capacity.impossible(made, NOW + 7_000, NOW)
    quick = capacity.promise(RATE, (), "acme", NOW + 7_000, 100, 1_000, NOW)
    assert not capacity.impossible(quick, NOW + 7_000, NOW), "short lines may fit"
    told = acceptance.too_short(made, acceptance.Window("b", NOW, NOW + 7_000))
    assert (told.status, told.code, told.param) == (400, "window_too_short", "completion_window")
    assert "completion_window of 19s" in told.message, "with a third, and what beginning takes, to spare"
    assert told.headers["x-millrace-estimated-completion-at"] == str(-(-(NOW + 18_300) // 1000))
    assert not capacity.impossible(made, NOW + 10_000, NOW), "what it names is accepted"


def test_what_the_configuration_says_of_a_model() -> None:
    data = {
        "tenants": {"acme": {"limits": [
            {"on": "requests", "per": "day", "max": 1}, {"on": "requests", "per": "day", "max": 2, "model": "other"},
            {"on": "requests", "per": "hour", "max": 3, "key": "k"},
            {"on": "requests", "per": "hour", "max": 4, "key": "x"},
            {"on": "requests", "per": "month", "max": 5, "model": "alias"},
        ], "prepaid": True}},
        "pools": {"p": {"engine": "echo"}, "q": {"engine": "echo"}},
        "models": {"a": {"route": ["p", "q"]}, "b": {"route": ["q"]},
                   "ab": {"split": [{"model": "a", "weight": 1}, {"model": "b", "weight": 1}]}},
        "aliases": {"alias": "ab"},
    }  # fmt: skip
    models = Models(config.document(config_check.parse(data)))
    assert models.routes("alias") == ("p", "q") and models.routes("gone") == ()
    assert [x.max for x in models.limits("acme", "k", "alias")] == [1, 3, 5]
    assert models.prepaid("acme") and not models.prepaid("globex") and models.limits("globex", "k", "a") == ()
    data["pools"]["q"]["concurrency"] = 9  # type: ignore[index]
    changed = Models(config.document(config_check.parse(data)))
    assert changed.fingerprint("b") != models.fingerprint("b")


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_stores_a_reason_that_is_new(validated: bool) -> None:
    run = BatchRun(DOCUMENT, "e")
    if validated:
        run.judge(Verdict(3, "echo", ()), 1)
    run.checkpoint(2)
    run.look(outlook(facts(parked=3, limits=(MINUTE,)), NOW))
    assert run.dirty and not run.due
    shown = run.checkpoint(3).document.batch.millrace
    assert shown is not None and shown.waiting is not None and shown.waiting.reason == "quota"
    run.look(outlook(facts(parked=9, limits=(MINUTE,)), NOW + 1))
    assert not run.dirty, "nothing is new"
