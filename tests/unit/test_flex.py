"""service_tier: what a flex call is to the gateway, to admission and to its caller."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from ingest import body as bodies
from ingest.envelope import ApiError
from ingest.order import DEADLINE_MS, FLEX_DEADLINE_MS, FLEX_LONGEST_MS, Order, Repeats, read_order
from ingest.streaming import Stream
from ingest.waiting import Call, Waiting
from schemas.config import Pool, Principal
from streams.body import TIERS, cache_key
from tests.unit.test_gateway_streaming import body, chunk, events, reply
from tests.unit.test_worker_priority import sent
from tests.unit.world import T0, cancellation, completion, credit, engine, line, request, rows

MINUTE = 60_000
PRICE = {"version": "v1", "input": 1_000_000, "output": 2_000_000, "batch_percent": 50}
HALF = {"half": {"route": ["echo"], "price": PRICE}}
POOLS = {"two": {"route": ["p1", "p2"]}}


def order(headers: dict[bytes, bytes] | None = None, path: str = bodies.CHAT, **more: Any) -> Order:
    """A call as the gateway reads it."""
    asked = {"messages": [{"role": "user", "content": "x"}], "input": "x", "prompt": "x"}
    if path == bodies.RESPONSES:
        asked = {"input": "x"}
    message = {"type": "http.request", "body": orjson.dumps({**asked, **more})}

    async def receive() -> dict[str, Any]:
        return message

    return asyncio.run(read_order({"path": path}, receive, headers or {}, Principal("t", "k", ("client",)), Repeats()))


def flex(text: str = "hello world", **more: Any) -> dict[str, Any]:
    """What the gateway writes of such a call."""
    given = {"body": {"service_tier": "flex"}, "lane": "batch", "deadline": T0 + FLEX_DEADLINE_MS, **more}
    return request(text, **given)


def tick(e: Any, at: int) -> None:
    e.step("Tick", {"tenant": "", "partition": 0}, at)


@pytest.mark.parametrize("path", [bodies.CHAT, bodies.COMPLETIONS, bodies.EMBEDDINGS, bodies.RESPONSES])
@pytest.mark.parametrize("tier", [None, *TIERS])
def test_only_flex_waits_longer_and_the_answer_names_what_was_served(path: str, tier: str | None) -> None:
    found = order(path=path, service_tier=tier)
    patient = tier == "flex"
    assert found.body.patient is patient
    assert found.deadline - found.received_at == (FLEX_DEADLINE_MS if patient else DEADLINE_MS)
    assert found.body.served == ("" if tier is None else "flex" if patient else "default")


def test_a_flex_call_may_wait_for_an_hour() -> None:
    for asked, expected in ((b"5000", 5_000), (b"2000000", 2_000_000), (b"99999999", FLEX_LONGEST_MS)):
        found = order({b"x-millrace-timeout-ms": asked}, service_tier="flex")
        assert found.deadline - found.received_at == expected


@pytest.mark.parametrize("value", ["turbo", "", 7, ["flex"], {"flex": 1}, True])
def test_another_tier_is_refused_by_name_at_every_door(value: Any) -> None:
    with pytest.raises(ApiError) as refused:
        order(service_tier=value)
    assert (refused.value.status, refused.value.param) == (400, "service_tier")
    e = engine()
    bad = line(1, body={"service_tier": value})
    e.step("Request", bad, T0)
    (row,) = rows(e).values()
    assert (row["status"], row["error_code"]) == ("refused", "invalid_request")
    assert orjson.loads(e.read("responses")[0]["body"])["error"]["param"] == "service_tier"


def test_those_who_have_time_leave_room_for_the_others() -> None:
    waiting = Waiting(limit=4, most_patient=2)
    calls = [Call("t", str(n), False, patient=True) for n in range(2)]
    for call in calls:
        assert waiting.has_patient_room()
        waiting.enter(call)
    assert waiting.has_room() and not waiting.has_patient_room()
    waiting.leave(calls[0])
    assert waiting.has_patient_room()


def test_every_event_names_the_tier() -> None:
    stream = Stream(include_usage=True, tier="flex")
    shown = events(stream.chunk(chunk(0, "one ")) + stream.reply(reply({**body("one two"), "service_tier": "odd"})))
    assert shown.pop() == "[DONE]" and len(shown) > 2 and {event["service_tier"] for event in shown} == {"flex"}
    guarded = events(Stream(include_usage=False, tier="flex").reply(reply(body("no"), "blocked")))
    assert {event["service_tier"] for event in guarded[:-1]} == {"flex"}
    plain = Stream(include_usage=False)
    assert plain.chunk(chunk(0, "one")) == b"data: %b\n\n" % chunk(0, "one")["data"], "nobody asked: it passes as it is"


def test_the_tier_never_leaves_and_splits_no_answer() -> None:
    pool = Pool("openai", base_url="http://x/v1")
    assert all("service_tier" not in sent(pool, lane, service_tier="flex") for lane in ("batch", "interactive"))
    asked = {"messages": [{"role": "user", "content": "x"}], "temperature": 0}
    assert cache_key(asked, bodies.CHAT, "m", "") == cache_key({**asked, "service_tier": "flex"}, bodies.CHAT, "m", "")


def test_it_is_answered_and_billed_as_a_batch_line() -> None:
    e = engine(models=HALF)
    r = flex(model="half", body={"service_tier": "flex", "temperature": 0})
    e.step("Request", r, T0)
    (work,) = e.read_work()
    assert (work["lane"], work["reply_to"], work["batch_id"], work["start_by"]) == (
        "batch", r["reply_to"], "", r["deadline"],
    )  # fmt: skip
    e.step("Completion", completion(r, input_tokens=100, output_tokens=100), T0 + 1)
    same = request(model="half", body={"temperature": 0})
    e.step("Request", same, T0 + 2)
    found = rows(e)
    assert (found[r["request_id"]]["lane"], found[r["request_id"]]["cost_micros"]) == ("batch", 150)
    assert (found[same["request_id"]]["cache"], found[same["request_id"]]["lane"]) == ("hit", "interactive")
    assert [reply["http_status"] for reply in e.read("replies.gw")] == [200, 200]


def test_a_busy_pool_is_not_taken_for_a_silent_one() -> None:
    e = engine()
    waits, hurries = flex(model="two"), request(model="two", deadline=T0 + FLEX_DEADLINE_MS)
    for r in (waits, hurries):
        e.step("Request", r, T0)
    tick(e, T0 + 2 * MINUTE)
    sent_on = [(w["request_id"], w["step"]) for w in e.read_work()]
    assert (hurries["request_id"], 1) in sent_on and (waits["request_id"], 1) not in sent_on
    tick(e, T0 + FLEX_DEADLINE_MS + 1_000)
    row = rows(e)[waits["request_id"]]
    assert (row["status"], row["error_code"]) == ("expired", "request_timeout")


def test_it_waits_for_quota_that_comes_in_time_and_for_no_other() -> None:
    limits = [{"on": "requests", "per": "minute", "max": 1}, {"on": "requests", "per": "day", "max": 2}]
    e = engine(limits)
    first, second, third = flex("a"), flex("b"), flex("c")
    for r in (first, second):
        e.step("Request", r, T0)
    assert len(e.read_work()) == 1, "the second waits for the next minute"
    tick(e, T0 + MINUTE)
    assert len(e.read_work()) == 2
    e.step("Request", third, T0 + MINUTE + 1)
    row = rows(e)[third["request_id"]]
    assert (row["status"], row["error_code"]) == ("refused", "quota_exceeded"), "tomorrow is too late"
    e.step("Request", line(1), T0 + MINUTE + 2)
    assert e.tenant("acme").deferral.count == 1, "a line of a batch waits for tomorrow"


def test_a_balance_that_is_used_up_is_told_at_once() -> None:
    e = engine(models=HALF, tenant={"prepaid": True})
    e.step("Credit", credit("c1", 1), T0)
    r = flex(model="half", body={"service_tier": "flex", "max_tokens": 100})
    e.step("Request", r, T0)
    assert rows(e)[r["request_id"]]["error_code"] == "insufficient_quota"


def test_a_caller_who_leaves_takes_it_out_of_the_queue() -> None:
    e = engine([{"on": "concurrency", "max": 1}])
    running, waiting = flex("a"), flex("b")
    for r in (running, waiting):
        e.step("Request", r, T0)
    e.step("Cancellation", cancellation(waiting), T0 + 1)
    row = rows(e)[waiting["request_id"]]
    assert (row["status"], row["lane"], row["input_tokens"], row["cost_micros"]) == ("cancelled", "batch", 0, 0)
