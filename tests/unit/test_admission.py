"""Admission, decision by decision, on the memory engine."""

from typing import Any

import orjson
import pytest

from tests.unit.world import T0, cancellation, completion, engine, held, line, request, rows, started

BANNED = [{"id": "p", "match": "a banned phrase", "action": "block", "message": "No."}]


def replies(e: Any) -> dict[str, dict[str, Any]]:
    return {r["request_id"]: r for r in e.read("replies.gw")}


def test_a_request_is_sent_answered_and_billed_once():
    e = engine([{"on": "requests", "per": "minute", "max": 5}, {"on": "total_tokens", "per": "day", "max": 100}])
    r = request("one two three", body={"max_tokens": 4})
    e.step("Request", r, T0 + 1)
    (work,) = e.read_work()
    assert work["pool"] == "echo" and work["max_output_tokens"] == 4 and held(e) == 1 + 3 + 4
    c = completion(r, input_tokens=3, output_tokens=3)
    e.step("Completion", c, T0 + 10)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["cache"], row["input_tokens"], row["output_tokens"]) == ("completed", "miss", 3, 3)
    assert row["cost_micros"] == 3 * 1 + 3 * 2 and row["attempt"] == c["attempt"]
    assert replies(e)[r["request_id"]]["body"] == c["body"] and held(e) == 0
    assert {k: v.spent for k, v in e.tenant("acme").accounts.items()} == {
        "requests/minute//": 1, "total_tokens/day//": 6,
    }  # fmt: skip


def test_a_second_completion_is_waste_and_its_repetition_is_nothing():
    e = engine()
    r = request()
    e.step("Request", r, T0)
    first, second = completion(r), completion(r)
    for c in (first, second, first):
        e.step("Completion", c, T0 + 5)
    assert len(rows(e)) == 1
    assert [(w["attempt"], w["reason"], w["output_tokens"]) for w in e.read("waste")] == [
        (second["attempt"], "late", 2)
    ]


def test_exactly_k_of_a_budget_are_admitted_and_the_rest_told_when_to_come_back():
    e = engine([{"on": "requests", "per": "minute", "max": 10}])
    sent = [request(f"text {i}") for i in range(300)]
    for r in sent:
        e.step("Request", r, T0 + 15_000)
    assert len(e.read_work()) == 10
    refused = [x for x in e.read("replies.gw") if x["http_status"] == 429]
    assert len(refused) == 290
    assert all(x["headers"]["retry-after"] == "45" and x["headers"]["x-should-retry"] == "false" for x in refused)
    assert orjson.loads(refused[0]["body"])["error"]["code"] == "quota_exceeded"
    assert refused[0]["headers"]["x-ratelimit-remaining-requests"] == "0"
    e.step("Request", r := request("next minute"), T0 + 60_000)
    assert r["request_id"] in {w["request_id"] for w in e.read_work()}


def test_the_budget_survives_a_restart():
    e = engine([{"on": "requests", "per": "minute", "max": 3}])
    for i in range(2):
        e.step("Request", request(f"a{i}"), T0)
    e.restart()
    for i in range(5):
        e.step("Request", request(f"b{i}"), T0 + 1)
    assert len(e.read_work()) == 3


def test_tokens_are_refused_only_when_the_bound_does_not_fit():
    e = engine([{"on": "total_tokens", "per": "hour", "max": 10}])
    a, b = request("w w w", body={"max_tokens": 5}), request("w w w", body={"max_tokens": 1})
    e.step("Request", a, T0)
    e.step("Request", b, T0)  # 8 held, 4 needed: does not fit
    assert [w["request_id"] for w in e.read_work()] == [a["request_id"]]
    e.step("Completion", completion(a, input_tokens=3, output_tokens=1), T0 + 1)  # 4 spent, 0 held
    c = request("w w w", body={"max_tokens": 3})  # needs 6: fits exactly
    e.step("Request", c, T0 + 2)
    assert e.read_work()[-1]["request_id"] == c["request_id"]


def test_a_request_larger_than_the_whole_limit_is_refused_even_in_a_batch():
    e = engine([{"on": "total_tokens", "per": "hour", "max": 10}])
    e.step("Request", line(1, "w", body={"max_tokens": 50}), T0)
    (result,) = e.read("batch_results")
    assert (result["status"], result["http_status"], result["error_code"]) == ("refused", 429, "quota_exceeded")


def test_a_batch_line_tells_how_long_it_held_a_slot_and_one_that_held_none_says_so():
    e = engine([{"on": "total_tokens", "per": "hour", "max": 20}])
    e.step("Request", ran := line(1, "w", body={"max_tokens": 5}), T0)
    e.step("Completion", completion(ran, started_at=T0 + 5, finished_at=T0 + 12), T0 + 13)
    e.step("Request", line(2, "w", body={"max_tokens": 50}), T0 + 14)
    assert [r["engine_ms"] for r in e.read("batch_results")] == [7, -1]


def test_batch_lines_over_quota_wait_in_order_for_the_next_window():
    e = engine([{"on": "requests", "per": "minute", "max": 2}])
    sent = [line(i, f"t{i}") for i in range(1, 6)]
    for r in sent:
        e.step("Request", r, T0 + 1)
    assert [w["line"] for w in e.read_work()] == [1, 2]
    for r in sent[:2]:
        e.step("Completion", completion(r), T0 + 5)
    assert [w["line"] for w in e.read_work()] == [1, 2]
    e.advance(T0 + 60_000)
    assert [w["line"] for w in e.read_work()] == [1, 2, 3, 4]
    e.advance(T0 + 120_000)
    assert sorted(w["line"] for w in e.read_work()) == [1, 2, 3, 4, 5]
    assert e.tenant("acme").deferral.count == e.tenant("acme").deferral.size == 0


def test_concurrency_frees_itself_when_a_request_ends():
    e = engine([{"on": "concurrency", "max": 1}])
    a, b = request("a"), request("b")
    e.step("Request", a, T0)
    e.step("Request", b, T0)
    assert rows(e)[b["request_id"]]["status"] == "refused"
    e.step("Completion", completion(a), T0 + 1)
    e.step("Request", c := request("c"), T0 + 2)
    assert e.read_work()[-1]["request_id"] == c["request_id"]


def test_identical_requests_share_one_inference():
    e = engine()
    sent = [request("same", body={"temperature": 0}) for _ in range(100)]
    for r in sent:
        e.step("Request", r, T0)
    assert len(e.read_work()) == 1
    e.step("Completion", completion(sent[0]), T0 + 9)
    assert [rows(e)[r["request_id"]]["cache"] for r in sent] == ["miss"] + ["follower"] * 99
    assert sum(u["input_tokens"] + u["output_tokens"] for u in rows(e).values()) == 4
    e.step("Request", hit := request("same", body={"temperature": 0}), T0 + 10)
    assert rows(e)[hit["request_id"]]["cache"] == "hit" and len(e.read_work()) == 1
    e.step("Request", request("same", body={"temperature": 0}, deadline=T0 + 10**8), T0 + 9 + 3_600_000)
    assert len(e.read_work()) == 2


@pytest.mark.parametrize(
    "change", [{"temperature": 0.5}, {"temperature": 0, "top_p": 0.9}, {"temperature": 0, "seed": 1}]
)
def test_other_parameters_are_another_request(change):
    e = engine()
    e.step("Request", request("same", body={"temperature": 0}), T0)
    e.step("Request", request("same", body=change), T0)
    assert len(e.read_work()) == 2


def test_the_header_decides_dedupe():
    e = engine()
    for cache in ("on", "on", "off"):
        e.step("Request", request("same", cache=cache), T0)
    assert len(e.read_work()) == 2


def test_when_a_leader_fails_the_oldest_follower_is_promoted_with_its_own_hold():
    e = engine([{"on": "total_tokens", "per": "day", "max": 1000}])
    a, b, c = (request("same", body={"temperature": 0, "max_tokens": 5}) for _ in range(3))
    for r in (a, b, c):
        e.step("Request", r, T0)
    assert held(e) == 6
    e.step("Completion", completion(a, "failed"), T0 + 1)
    assert [w["request_id"] for w in e.read_work()] == [a["request_id"], b["request_id"]] and held(e) == 6
    e.step("Completion", completion(b), T0 + 2)
    assert {k: v["status"] for k, v in rows(e).items()} == {
        a["request_id"]: "failed", b["request_id"]: "completed", c["request_id"]: "completed",
    }  # fmt: skip
    assert held(e) == 0


def test_cancelling_one_caller_never_cancels_another():
    e = engine()
    a, b = (request("same", body={"temperature": 0}) for _ in range(2))
    e.step("Request", a, T0)
    e.step("Request", b, T0)
    e.step("Cancellation", cancellation(a), T0 + 1)
    assert not e.read("control")
    e.step("Completion", completion(a), T0 + 2)
    assert rows(e)[b["request_id"]]["status"] == "completed"


def test_a_cancelled_request_stops_its_worker_and_pays_for_what_was_generated():
    e = engine([{"on": "total_tokens", "per": "day", "max": 1000}])
    r = request("a b c", body={"max_tokens": 50})
    e.step("Request", r, T0)
    e.step("Cancellation", cancellation(r), T0 + 1)
    assert [x["request_id"] for x in e.read("control")] == [r["request_id"]]
    e.step("Completion", completion(r, "cancelled", input_tokens=3, output_tokens=7), T0 + 2)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["input_tokens"], row["output_tokens"]) == ("cancelled", 3, 7)
    assert e.tenant("acme").accounts["total_tokens/day//"].spent == 10 and held(e) == 0


def test_a_cancellation_nobody_answers_ends_by_itself():
    e = engine([{"on": "requests", "per": "day", "max": 10}])
    e.step("Request", r := request(), T0)
    e.step("Cancellation", cancellation(r), T0 + 1)
    e.advance(T0 + 40_000)
    assert rows(e)[r["request_id"]]["status"] == "cancelled" and held(e) == 0
    e.step("Completion", completion(r), T0 + 50_000)
    assert [w["reason"] for w in e.read("waste")] == ["late"]


def test_a_line_cancelled_before_it_was_submitted_has_its_row_and_stays_dead():
    e = engine()
    r = line(7)
    e.step("Cancellation", cancellation(r, "expired"), T0)
    e.step("Request", r, T0 + 1)
    assert not e.read_work() and rows(e)[r["request_id"]]["status"] == "expired"
    (result,) = e.read("batch_results")
    assert (result["line"], result["http_status"], result["error_code"]) == (7, 0, "batch_expired")


def test_a_silent_request_expires_at_its_deadline():
    e = engine([{"on": "concurrency", "max": 1}])
    e.step("Request", r := request(deadline=T0 + 5_000), T0)
    e.advance(T0 + 4_999)
    assert not rows(e)
    e.advance(T0 + 5_000)
    assert rows(e)[r["request_id"]]["status"] == "expired" and held(e) == 0
    assert replies(e)[r["request_id"]]["http_status"] == 504


def test_a_pool_that_fails_is_followed_by_the_next():
    e = engine()
    r = request("x", model="two")
    e.step("Request", r, T0)
    e.step("Completion", completion(r, "unavailable", step=0, input_tokens=3), T0 + 1)
    assert [w["pool"] for w in e.read_work()] == ["p1", "p2"]
    e.step("Completion", completion(r, step=1, pool="p2"), T0 + 2)
    assert rows(e)[r["request_id"]]["pool"] == "p2"
    assert [w["reason"] for w in e.read("waste")] == ["retried"]


def test_a_pool_that_is_silent_is_followed_by_the_next_but_not_once_it_started():
    e = engine()
    a, b = request("x", model="two"), request("y", model="two")
    e.step("Request", a, T0)
    e.step("Request", b, T0)
    e.step("Started", started(b, "s1"), T0 + 10)
    e.advance(T0 + 63_000)
    assert [(w["request_id"], w["pool"]) for w in e.read_work()] == [
        (a["request_id"], "p1"), (b["request_id"], "p1"), (a["request_id"], "p2"),
    ]  # fmt: skip
    # Those who watch pools are told; to admission it is nothing when it comes back, however often.
    (told,) = e.read("journal")
    assert (told["request_id"], told["pool"], told["outcome"]) == (a["request_id"], "p1", "unavailable")
    assert (told["started_at"], told["finished_at"]) == (T0, T0 + 62_000)
    before = {topic: len(records) for topic, records in e.topics.items()}
    for _ in range(2):
        assert e.step("Completion", told, T0 + 63_000) == []
    e.step("Completion", completion(a, step=1, pool="p2"), T0 + 63_001)
    assert e.step("Completion", told, T0 + 63_002) == [] and rows(e)[a["request_id"]]["pool"] == "p2"
    assert before["journal"] == len(e.topics["journal"]) and not e.read("waste")


def test_a_clients_own_fault_is_not_tried_elsewhere():
    e = engine()
    r = request("x", model="two")
    e.step("Request", r, T0)
    body = (
        b'{"error":{"message":"too long","type":"invalid_request_error","param":null,"code":"context_length_exceeded"}}'
    )
    e.step("Completion", completion(r, "invalid", http_status=400, body=body), T0 + 1)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["error_code"]) == ("refused", "context_length_exceeded") and len(e.read_work()) == 1
    assert replies(e)[r["request_id"]]["body"] == body


def test_a_stream_begun_twice_is_interrupted_unless_the_first_attempt_finishes():
    e = engine()
    a, b = request("a", stream=True), request("b", stream=True)
    for r in (a, b):
        e.step("Request", r, T0)
        e.step("Started", started(r, "1" + r["request_id"]), T0 + 1)
        e.step("Started", started(r, "2" + r["request_id"]), T0 + 2)
        e.step("Completion", completion(r, attempt="2" + r["request_id"]), T0 + 3)
    assert not rows(e)
    e.step("Completion", completion(a, attempt="1" + a["request_id"]), T0 + 4)
    e.advance(T0 + 10_000)
    assert rows(e)[a["request_id"]]["status"] == "completed"
    assert rows(e)[b["request_id"]]["status"] == "interrupted"
    assert [w["attempt"] for w in e.read("waste")] == ["2" + a["request_id"], "2" + b["request_id"]]


def test_a_repeated_request_gets_its_one_answer():
    e = engine()
    r = request(repeatable=True)
    e.step("Request", r, T0)
    e.step("Request", r | {"reply_to": "replies.gw2"}, T0 + 1)
    e.step("Completion", completion(r), T0 + 2)
    e.step("Request", r, T0 + 3)
    assert len(e.read_work()) == 1 and len(rows(e)) == 1
    assert len(e.read("replies.gw")) == 2 and len(e.read("replies.gw2")) == 1
    assert e.read("replies.gw")[0]["body"] == e.read("replies.gw")[1]["body"]


def test_a_banned_prompt_is_blocked_and_audited_before_anything_is_held():
    e = engine([{"on": "requests", "per": "day", "max": 10}], BANNED)
    e.step("Request", r := request("this is A  Banned phrase"), T0)
    assert rows(e)[r["request_id"]]["status"] == "blocked" and not e.read_work() and held(e) == 0
    body = orjson.loads(replies(e)[r["request_id"]]["body"])
    assert body["model"] == "from-security-guard" and body["usage"]["total_tokens"] == 0
    (row,) = e.read("audit")
    assert (row["stage"], row["rule"], row["action"]) == ("request", "p", "block")


def test_a_masked_prompt_is_masked_before_it_leaves():
    e = engine(rules=[{"id": "card", "detect": "credit_card", "action": "mask"}])
    e.step("Request", request("pay 4111 1111 1111 1111 now"), T0)
    (work,) = e.read_work()
    assert orjson.loads(work["body"])["messages"][0]["content"] == "pay [masked] now"
    assert [(a["rule"], a["action"]) for a in e.read("audit")] == [("card", "mask")]


def test_a_blocked_answer_has_its_audit_row_and_is_billed():
    e = engine(rules=BANNED)
    e.step("Request", r := request("x"), T0)
    finding = {"rule": "p", "action": "block", "matches": 1}
    e.step("Completion", completion(r, "blocked", output_tokens=9, findings=[finding]), T0 + 1)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["output_tokens"]) == ("blocked", 9)
    assert [(a["stage"], a["rule"]) for a in e.read("audit")] == [("response", "p")]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_request"),
        (b'{"messages":[]}', 400, "invalid_request"),
        (b'{"messages":[{"role":"user","content":"x"}],"max_tokens":0}', 400, "invalid_request"),
    ],
)
def test_a_bad_body_is_refused_with_its_reason(body, status, code):
    e = engine()
    e.step("Request", r := request() | {"body": body}, T0)
    assert replies(e)[r["request_id"]]["http_status"] == status
    assert rows(e)[r["request_id"]]["error_code"] == code


def test_an_unknown_model_is_404():
    e = engine()
    e.step("Request", r := request() | {"model": "nope"}, T0)
    assert replies(e)[r["request_id"]]["http_status"] == 404


def test_spending_beyond_the_bound_is_settled_in_full_and_reported_as_debt():
    e = engine([{"on": "total_tokens", "per": "day", "max": 100}])
    e.step("Request", r := request("a b", body={"max_tokens": 3}), T0)
    e.step("Completion", completion(r, input_tokens=2, output_tokens=10), T0 + 1)
    assert rows(e)[r["request_id"]]["debt_tokens"] == 7
    assert e.tenant("acme").accounts["total_tokens/day//"].spent == 12


def test_a_hold_of_a_past_window_does_not_count_in_the_next():
    e = engine([{"on": "requests", "per": "minute", "max": 1}])
    e.step("Request", a := request("a"), T0 + 59_999)
    e.step("Request", b := request("b"), T0 + 60_000)
    e.step("Completion", completion(a), T0 + 60_001)
    e.step("Completion", completion(b), T0 + 60_002)
    assert e.tenant("acme").accounts["requests/minute//"].spent == 1 and held(e) == 0


def test_a_request_that_comes_too_late_ends_when_it_comes():
    e = engine()
    r = request(received_at=T0, deadline=T0 + 1_000)
    e.step("Request", r, T0 + 5_000)
    row = rows(e)[r["request_id"]]
    assert (row["status"], row["completed_at"], e.read_work()) == ("expired", T0 + 5_000, [])
