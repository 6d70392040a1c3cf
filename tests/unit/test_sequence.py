"""Requests of one order key: one after the other, whatever happens to them."""

from __future__ import annotations

import random
from typing import Any

import pytest

from schemas import topics
from streams import sequence
from streams.memory import MemoryEngine
from tests.unit.world import T0, cancellation, completion, engine, request, rows

ANSWERS = topics.answers("acme").name


def ask(key: str = "device-7", **more: Any) -> dict[str, Any]:
    return request(order_key=key, source="intake", lane="standard", reply_to=ANSWERS, **more)


def running(e: MemoryEngine) -> list[str]:
    """Requests that were sent and have no row, in the order sent."""
    ended = rows(e)
    return [w["request_id"] for w in e.read_work() if w["request_id"] not in ended]


def answered(e: MemoryEngine) -> list[str]:
    return [r["request_id"] for r in e.read(ANSWERS)]


def test_the_next_one_starts_when_the_one_before_has_its_answer():
    e = engine()
    a, b, c = (ask("device-7", request_id=name) for name in "abc")
    other, free = ask("device-8"), ask("")
    for n, r in enumerate((a, b, c, other, free)):
        e.step("Request", r, T0 + n)
    assert running(e) == ["a", other["request_id"], free["request_id"]]
    emits = e.step("Completion", completion(a), T0 + 10)
    assert running(e) == [other["request_id"], free["request_id"], "b"]
    topics_written = [x.topic for x in emits]
    assert topics_written.index(ANSWERS) < topics_written.index("work.echo.standard"), "the answer goes out first"
    e.step("Completion", completion(c), T0 + 11)  # of a request that never started: waste, and no end
    assert "c" not in rows(e)
    e.step("Completion", completion(b), T0 + 12)
    e.step("Completion", completion(c), T0 + 13)
    assert [i for i in answered(e) if i in "abc"] == ["a", "b", "c"]
    assert {key for key, _ in e.topics[ANSWERS]} == {"device-7"}, "one partition for the answers of a device"
    assert e.tenant("acme").sequences.end("device-7") == (0, "")


@pytest.mark.parametrize("outcome", ["failed", "unavailable", "cancelled"])
def test_whatever_ends_one_lets_the_next_one_go(outcome):
    e = engine()
    a, b = ask(), ask()
    e.step("Request", a, T0)
    e.step("Request", b, T0)
    e.step("Completion", completion(a, outcome), T0 + 1)
    assert running(e) == [b["request_id"]]


def test_who_ends_while_it_waits_leaves_no_gap():
    e = engine()
    a, b, c, d = (ask(request_id=name, deadline=T0 + 600_000) for name in "abcd")
    b["deadline"] = T0 + 5_000
    for r in (a, b, c, d):
        e.step("Request", r, T0)
    e.advance(T0 + 6_000)
    assert rows(e)["b"]["status"] == "expired" and answered(e) == ["b"]
    e.step("Cancellation", cancellation(d), T0 + 7_000)
    e.step("Completion", completion(a), T0 + 8_000)
    assert running(e) == ["c"]
    e.step("Request", f := ask(request_id="f", deadline=T0 + 600_000), T0 + 9_000)
    e.step("Completion", completion(c), T0 + 9_001)
    assert running(e) == ["f"]
    e.step("Completion", completion(f), T0 + 9_002)
    sequences = e.tenant("acme").sequences
    assert (sequences.count, sequences.size, sequences.end("device-7")) == (0, 0, (0, ""))


def test_what_is_refused_in_its_turn_passes_it_on():
    e = engine([{"on": "requests", "per": "day", "max": 1}])
    a, b, c = ask(), ask(), ask()
    for r in (a, b, c):
        e.step("Request", r, T0)
    assert not rows(e), "those who wait hold nothing, and are decided in their turn"
    e.step("Completion", completion(a), T0 + 1)
    assert [rows(e)[r["request_id"]]["status"] for r in (a, b, c)] == ["completed", "refused", "refused"]
    assert answered(e) == [r["request_id"] for r in (a, b, c)]


def test_a_flood_of_one_device_is_refused_and_turns_are_taken_in_parts(monkeypatch):
    monkeypatch.setattr(sequence, "MAX_OF_KEY", 8)
    monkeypatch.setattr("streams.admission.TURNS_AT_ONCE", 2)
    e = engine([{"on": "requests", "per": "day", "max": 1}])
    asked = [ask() for _ in range(11)]
    for r in asked:
        e.step("Request", r, T0)
    refused = [rows(e)[r["request_id"]]["error_code"] for r in asked[9:]]
    assert refused == ["order_queue_full"] * 2 and len(rows(e)) == 2
    e.step("Completion", completion(asked[0]), T0 + 1)
    ended = [len(rows(e))]
    while len(rows(e)) < 11:
        e.restart()  # whose turn has come is known to the state, not to a process
        e.advance(T0 + 1_000 * len(ended) + 1)
        ended.append(len(rows(e)))
    assert ended == [5, 8, 11] and e.tenant("acme").sequences.count == 0


def test_a_repeated_record_does_not_queue_behind_itself():
    e = engine()
    a, b = ask(), ask()
    for r in (a, a, b, b):
        e.step("Request", r, T0)
    assert e.tenant("acme").sequences.end("device-7") == (2, b["request_id"])
    e.step("Completion", completion(a), T0 + 1)
    e.step("Request", a, T0 + 2)
    e.step("Completion", completion(b), T0 + 3)
    assert answered(e) == [a["request_id"], b["request_id"]]


@pytest.mark.parametrize("seed", range(20))
def test_order_holds_under_chance_and_restarts(seed):
    """Random arrivals, ends, expiries, cancellations and restarts: at most one of a key runs, in the order sent."""
    chance = random.Random(seed)
    e, now = engine([{"on": "requests", "per": "second", "max": 3}]), T0
    sent: dict[str, list[str]] = {}
    asked: dict[str, dict[str, Any]] = {}
    for _ in range(300):
        now += chance.choice((0, 1, 300, 900))
        flying = running(e)
        what = chance.random()
        if what < 0.5 or not flying:
            r = ask(
                chance.choice(("x", "y", "z")), deadline=now + chance.choice((1_500, 60_000)), body={"n": len(asked)}
            )
            asked[r["request_id"]] = r
            sent.setdefault(r["order_key"], []).append(r["request_id"])
            e.step("Request", r, now)
        elif what < 0.8:
            e.step("Completion", completion(asked[chance.choice(flying)]), now)
        elif what < 0.87:
            e.step("Cancellation", cancellation(asked[chance.choice(list(asked))]), now)
        elif what < 0.94:
            e.advance(now)
        else:
            e.restart()
        keys = [asked[i]["order_key"] for i in running(e)]
        assert len(keys) == len(set(keys)), f"seed {seed}: two of one key run at once"
    now += 120_000
    e.advance(now)
    assert set(rows(e)) == set(asked), f"seed {seed}: {set(asked) - set(rows(e))} never ended"
    for key, ids in sent.items():
        started = [w["request_id"] for w in e.read_work() if asked[w["request_id"]]["order_key"] == key]
        assert started == [i for i in ids if i in set(started)], f"seed {seed}: {key} out of order"
        assert e.tenant("acme").sequences.end(key) == (0, "")
    assert (e.tenant("acme").sequences.count, e.tenant("acme").sequences.size) == (0, 0)
