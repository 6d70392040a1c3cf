"""Which pool gets a request: circuits, guards, shadows, splits and cohorts."""

from collections import Counter

import orjson
import pytest

from tests.unit.world import (
    MODELS,
    T0,
    adopt,
    cancellation,
    completion,
    configuration,
    engine,
    held,
    line,
    request,
    rows,
)

GUARD = {"guard": {"pool": "p2", "timeout_ms": 3_000, "message": "Judged."}}
SPLIT = {"ab": {"split": [{"model": "echo", "weight": 90}, {"model": "two", "weight": 10, "cohort": "new"}]}}
SHADOW = {"echo": {**MODELS["models"]["echo"], "shadow": {"model": "two", "percent": 100}}}


def said(text):
    return orjson.dumps({"choices": [{"message": {"content": text}}]})


def judged(w, text, **more):
    return completion(w, step=-1, pool="p2", body=said(text), input_tokens=9, output_tokens=1, **more)


def circuit(pool, open_):
    return {"tenant": "acme", "pool": pool, "open": open_, "at": T0}


def tick(e, at):
    e.step("Tick", {"tenant": "", "partition": 0}, at)


def test_an_open_circuit_is_passed_over_until_it_closes():
    e = engine()
    for open_, pool in ((True, "p2"), (False, "p1")):
        e.step("Circuit", circuit("p1", open_), T0)
        e.restart()
        r = request(model="two")
        e.step("Request", r, T0)
        assert next(w["pool"] for w in e.read_work() if w["request_id"] == r["request_id"]) == pool
        e.step("Completion", completion(r, pool=pool, step=int(open_)), T0 + 1)
        assert rows(e)[r["request_id"]]["route_step"] == int(open_)


def test_an_open_circuit_nobody_speaks_of_any_more_is_tried_again():
    e = engine()
    e.step("Circuit", circuit("p1", True), T0)
    for at, pool in ((T0 + 179_000, "p2"), (T0 + 180_000, "p1")):
        r = request(model="two")
        e.step("Request", r, at)
        assert next(w["pool"] for w in e.read_work() if w["request_id"] == r["request_id"]) == pool


def test_the_last_pool_is_tried_whatever_its_circuit_says():
    e = engine()
    for pool in ("p1", "p2"):
        e.step("Circuit", circuit(pool, True), T0)
    e.step("Request", request(model="two"), T0)
    assert [w["pool"] for w in e.read_work()] == ["p1"]


def test_a_guard_is_asked_first_and_lets_pass():
    e = engine(tenant=GUARD, limits=[{"on": "total_tokens", "per": "day", "max": 1_000}])
    r = request("is this fine", reply_to="replies.gw", stream=True)
    e.step("Request", r, T0)
    (w,) = e.read_work()
    assert (w["pool"], w["step"], w["stream"], w["reply_to"]) == ("p2", -1, False, "")
    assert orjson.loads(w["body"])["messages"] == [{"role": "user", "content": "is this fine"}]
    e.step("Completion", judged(r, "safe"), T0 + 5)
    assert [(w["pool"], w["stream"]) for w in e.read_work()] == [("echo", True), ("p2", False)]
    e.step("Completion", completion(r), T0 + 9)
    assert rows(e)[r["request_id"]]["status"] == "completed" and held(e) == 0
    assert [(w["reason"], w["input_tokens"]) for w in e.read("waste")] == [("guard", 9)]


def test_what_a_guard_forbids_is_blocked_for_followers_too():
    e = engine(tenant=GUARD)
    leader, follower = (request("bad", body={"temperature": 0}) for _ in range(2))
    e.step("Request", leader, T0)
    e.step("Request", follower, T0)
    e.step("Completion", judged(leader, "unsafe\nS1, S9"), T0 + 5)
    found = rows(e)
    assert [found[r["request_id"]]["status"] for r in (leader, follower)] == ["blocked", "blocked"]
    assert [(a["rule"], a["stage"], a["action"]) for a in e.read("audit")] == [
        ("guard/p2/S1", "request", "block"),
        ("guard/p2/S9", "request", "block"),
    ]
    assert all(b"Judged." in reply["body"] for reply in e.read("replies.gw"))
    e.step("Request", request("bad", body={"temperature": 0}), T0 + 6)
    assert len(e.read_work()) == 2, "a blocked answer is never cached"


@pytest.mark.parametrize("answer", ["maybe", "", "safety first"])
def test_a_guard_without_a_clear_word_lets_nothing_pass(answer):
    e = engine(tenant=GUARD)
    r = request()
    e.step("Request", r, T0)
    e.step("Completion", judged(r, answer), T0 + 5)
    assert rows(e)[r["request_id"]]["error_code"] == "moderation_unavailable"
    assert [w["step"] for w in e.read_work()] == [-1]


@pytest.mark.parametrize("outcome", ["unavailable", "failed", "invalid", "expired"])
def test_a_guard_that_fails_lets_nothing_pass(outcome):
    e = engine(tenant=GUARD)
    r = request()
    e.step("Request", r, T0)
    e.step("Completion", judged(r, "safe", outcome=outcome), T0 + 5)
    assert (rows(e)[r["request_id"]]["status"], held(e)) == ("refused", 0)


def test_a_guard_that_is_silent_ends_the_request_in_time_and_is_late_after_it():
    e = engine(tenant=GUARD)
    r = request()
    e.step("Request", r, T0)
    tick(e, T0 + 3_000)
    assert rows(e)[r["request_id"]]["error_code"] == "moderation_unavailable"
    e.step("Completion", judged(r, "safe"), T0 + 3_500)
    assert len(e.read_work()) == 1 and [w["reason"] for w in e.read("waste")] == ["guard"]


def test_a_caller_who_leaves_while_judged_costs_nothing():
    e = engine(tenant=GUARD, limits=[{"on": "total_tokens", "per": "day", "max": 1_000}])
    r = request()
    e.step("Request", r, T0)
    e.step("Cancellation", cancellation(r), T0 + 1)
    e.step("Completion", judged(r, "safe"), T0 + 2)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["input_tokens"], held(e), len(e.read_work())) == ("cancelled", 0, 0, 1)


def test_a_batch_line_is_judged_without_a_time_limit():
    e = engine(tenant=GUARD)
    b = line(1)
    e.step("Request", b, T0)
    tick(e, T0 + 60_000)
    e.step("Completion", judged(b, "safe"), T0 + 60_001)
    assert {w["pool"] for w in e.read_work()} == {"p2", "echo"}


def drive(e):
    """The same twenty requests, seven of them different; everything is answered, copies for the shadow too."""
    for n in range(20):
        e.step("Request", request(f"text {n % 7}", request_id=f"same{n}", body={"temperature": 0}), T0 + n)
    for w in e.read_work():
        more = {"shadow_of": "echo", "model": "two", "pool": "p1", "output_tokens": 50} if w["shadow_of"] else {}
        e.step("Completion", completion(w, attempt=f"a-{w['request_id']}", **more), T0 + 100)
    e.step("Request", request("text 3", request_id="late", body={"temperature": 0}), T0 + 200)
    return e


def shown(e, topic):
    """Keys and records, without the one word that must differ: which configuration decided."""
    return [
        (key, {k: v for k, v in e.codec.decode(value)[1].items() if k != "policy_version"})
        for key, value in e.topics[topic]
    ]


def test_a_shadow_changes_nothing_that_anyone_sees_or_pays():
    limits = [{"on": on, "per": "day", "max": 10**6} for on in ("requests", "total_tokens", "cost_micros")]
    plain, shadowed = drive(engine(limits)), drive(engine(limits, models=SHADOW))
    for topic in ("usage", "responses", "replies.gw", "audit", "batch_results", "control"):
        assert shown(plain, topic) == shown(shadowed, topic)
    assert plain.tenant("acme").accounts == shadowed.tenant("acme").accounts
    copies = shadowed.read("shadows")
    assert [(c["model"], c["shadow_model"], c["outcome"]) for c in copies] == [("echo", "two", "ok")] * 7
    assert {(w["reason"], w["output_tokens"]) for w in shadowed.read("waste")} == {("shadow", 50)}
    assert {w["lane"] for w in shadowed.read_work() if w["shadow_of"]} == {"batch"}
    assert not plain.read("shadows") and not plain.read("waste")


@pytest.mark.parametrize("percent", [0, 30])
def test_a_share_of_the_requests_is_shadowed(percent):
    e = engine(models={"echo": {**SHADOW["echo"], "shadow": {"model": "two", "percent": percent}}})
    for n in range(500):
        e.step("Request", request(f"text {n}"), T0)
    copies = [w for w in e.read_work() if w["shadow_of"]]
    assert abs(len(copies) - 5 * percent) <= 30 if percent else not copies


def test_a_split_is_sticky_weighted_and_named_in_usage():
    e = engine(models=SPLIT | {"ab": {**SPLIT["ab"], "sticky": "user"}})
    sides = {}
    for i in range(2_000):
        user = f"user {i % 500}"
        r = request(model="ab", body={"user": user, "max_tokens": 5})
        e.step("Request", r, T0 + i)
        w = e.step("Completion", completion(r, pool="p1"), T0 + i)
        cohort = next(x.record["cohort"] for x in w if x.topic == "usage")
        assert sides.setdefault(user, cohort) == cohort
    counts = Counter(sides.values())
    assert set(counts) == {"echo", "new"} and 0.07 < counts["new"] / 500 < 0.13


def test_a_new_policy_moves_the_split_at_once():
    e = engine(models=SPLIT)
    moved = {"ab": {"split": [{"model": "echo", "weight": 0}, {"model": "two", "weight": 1}]}}
    adopt(e, configuration(models=moved), T0 + 1)
    r = request(model="ab", body={"max_tokens": 5})
    e.step("Request", r, T0 + 2)
    assert [w["model"] for w in e.read_work()] == ["two"]
