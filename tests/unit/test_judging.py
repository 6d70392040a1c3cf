"""/v1/moderations: the tenant's rules applied to texts that go nowhere."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types import ModerationCreateResponse

from streams.judging import MODERATIONS, OPENAI
from tests.unit.world import T0, adopt, configuration, engine, line, request, rows

RULES: list[dict[str, Any]] = [
    {"id": "asked", "match": "a banned phrase", "stages": ["request"]},
    {"id": "said", "match": "a leaked secret", "stages": ["response"], "action": "flag"},
    {"id": "card", "detect": "credit_card", "action": "mask"},
]


def ask(given: Any, model: str = "", **more: Any) -> dict[str, Any]:
    body = orjson.dumps({"input": given} | ({"model": model} if model else {}))
    return request() | {"endpoint": MODERATIONS, "model": model, "body": body, **more}


def judged(given: Any, **more: Any) -> ModerationCreateResponse:
    e = engine(rules=RULES)
    e.step("Request", ask(given, **more), T0)
    (reply,) = e.read("replies.gw")
    assert (reply["status"], reply["http_status"]) == ("completed", 200) and not e.read_work()
    assert not e.read("audit"), "nothing was blocked"
    return ModerationCreateResponse.model_validate_json(reply["body"])


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("harmless", [set()]),
        (["harmless", "say A  BANNED phrase"], [set(), {"rule/asked"}]),
        ("a leaked secret on 4111 1111 1111 1111", [{"rule/said", "rule/card"}]),
        ([{"type": "text", "text": "a leaked"}, {"type": "text", "text": "secret"}], [{"rule/said"}]),
    ],
)
def test_rules_of_both_stages_are_the_categories(given: Any, found: list[set[str]]):
    answer = judged(given, model="omni-moderation-latest")
    assert answer.model == "millrace-rules" and [r.flagged for r in answer.results] == [bool(f) for f in found]
    for result, expected in zip(answer.results, found, strict=True):
        categories = result.categories.to_dict()
        assert {name for name, hit in categories.items() if hit} == expected
        assert set(categories) == {*OPENAI, "rule/asked", "rule/said", "rule/card"}
        served = {name for name, kinds in result.category_applied_input_types.to_dict().items() if kinds}
        assert served == {"rule/asked", "rule/said", "rule/card"}, "what no rule speaks of is not claimed"


@pytest.mark.parametrize(
    ("given", "model", "status", "code"),
    [
        ([], "", 400, "invalid_request"),
        (5, "", 400, "invalid_request"),
        (["x"] * 1_025, "", 400, "invalid_request"),
        ([{"type": "image_url", "image_url": {"url": "data:x"}}], "", 400, "unsupported_parameter"),
        ("x", "echo", 404, "model_not_found"),
    ],
)
def test_what_cannot_be_judged(given: Any, model: str, status: int, code: str):
    e = engine(rules=RULES)
    e.step("Request", ask(given, model), T0)
    (reply,) = e.read("replies.gw")
    assert (reply["http_status"], orjson.loads(reply["body"])["error"]["code"]) == (status, code)


def test_it_counts_as_a_request_and_costs_no_token():
    e = engine([{"on": "requests", "per": "minute", "max": 2}, {"on": "total_tokens", "per": "day", "max": 1}])
    for r in (sent := [ask("x") for _ in range(3)]):
        e.step("Request", r, T0)
    found = [rows(e)[r["request_id"]] for r in sent]
    assert [row["status"] for row in found] == ["completed", "completed", "refused"]
    assert all(row["input_tokens"] == row["cost_micros"] == 0 and row["model"] == "millrace-rules" for row in found)


def test_lines_of_a_batch_wait_for_quota_and_are_answered_then():
    e = engine([{"on": "requests", "per": "minute", "max": 1}])
    sent = [line(n) | {"endpoint": MODERATIONS, "model": "", "body": b'{"input":"x"}'} for n in (1, 2, 3)]
    for r in sent:
        e.step("Request", r, T0)
    assert len(rows(e)) == 1
    for minute in (1, 2, 3):
        e.step("Tick", {"partition": 0}, T0 + minute * 60_000 + 1)
    assert [rows(e)[r["request_id"]]["status"] for r in sent] == ["completed"] * 3
    assert len(e.read("batch_results")) == 3 and not e.read_work()
    assert e.tenant("acme").deferral.count == e.tenant("acme").deferral.size == 0


def test_what_cannot_be_checked_is_not_called_harmless():
    e = engine()
    broken = configuration(rules=[{"id": "x", "regex": "("}])
    adopt(e, broken)
    e.step("Request", ask("x"), T0)
    (reply,) = e.read("replies.gw")
    assert (reply["http_status"], reply["status"]) == (503, "refused")
