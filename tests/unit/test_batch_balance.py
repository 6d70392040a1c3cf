"""A prepaid balance is asked for, changes nothing by that, and refuses only what could never begin."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson
import pytest

from ingest import batch_line, enquiries
from ingest.batch_cost import least_micros
from ingest.batch_line import Line
from ingest.batch_models import Models
from ingest.enquiries import Account, Enquiries
from ingest.waiting import Waiting
from schemas import config
from tests.unit.world import T0, completion, configuration, credit, engine, line, rows

CHAT = "/v1/chat/completions"
PRICE = {"version": "v1", "input": 1_000_000, "output": 2_000_000, "batch_percent": 50}
MODELS = {
    "half": {"route": ["echo"], "price": PRICE},
    "kept": {"route": ["echo"], "price": {**PRICE, "hit_percent": 10, "follower_percent": 20}},
    "free": {"route": ["echo"]},
    "either": {"split": [{"model": "half", "weight": 1}, {"model": "free", "weight": 1}]},
    "never": {"split": [{"model": "half", "weight": 1}, {"model": "free", "weight": 0}]},
    "small": {"route": ["echo"], "price": PRICE, "max_output_tokens": 5},
}


def least(model: str, url: str = CHAT, **body: Any) -> int:
    asked = {"model": model, "messages": [{"role": "user", "content": "two words"}], "max_tokens": 10, **body}
    parsed = batch_line.parse(orjson.dumps({"custom_id": "a", "method": "POST", "url": url, "body": asked}))
    assert isinstance(parsed, Line)
    return least_micros(parsed, Models(config.document(configuration(models=MODELS))))


def account(e: Any) -> dict[str, int]:
    """What admission tells of it."""
    before = rows(e)
    e.step("Enquiry", {"tenant": "acme", "request_id": "q", "reply_to": "replies.q"}, T0 + 10)
    reply = e.read("replies.q")[-1]
    assert (reply["request_id"], reply["status"], rows(e)) == ("q", "completed", before)
    return cast("dict[str, int]", orjson.loads(reply["body"]))


def test_the_bound_of_a_line_is_what_admission_wants_for_it() -> None:
    assert least("half") == 11 == (2 + 2 * 10) // 2
    e = engine(models=MODELS, tenant={"prepaid": True})
    e.step("Credit", credit("c1", 10), T0)
    first = line(1, "two words", model="half", body={"max_tokens": 10})
    e.step("Request", first, T0 + 1)
    assert not e.read_work() and account(e) == {"left_micros": 10, "held_micros": 0}
    e.step("Credit", credit("c2", 1), T0 + 2)
    assert len(e.read_work()) == 1 and account(e) == {"left_micros": 11, "held_micros": 11}
    e.step("Completion", completion(first, input_tokens=2, output_tokens=2), T0 + 3)
    assert account(e) == {"left_micros": 8, "held_micros": 0}


def test_nothing_is_counted_that_is_not_sure() -> None:
    assert least("free") == least("gone") == least("either") == 0 and least("never") == 11
    assert least("half", temperature=0) == 0, "it may be answered from the cache, for nothing"
    assert least("kept", temperature=0) == 2 and least("kept") == 11
    assert least("small") == 0, "it will be refused, and that is for nothing"
    assert least("half", url="/v1/moderations", input="x") == 0
    assert least("half", url="/v1/responses", input="two words", messages=None, max_output_tokens=10) == 11


def test_a_tenant_without_credit_has_nothing() -> None:
    assert account(engine(tenant={"prepaid": True})) == {"left_micros": 0, "held_micros": 0}


class Log:
    """A journal whose reader answers, or not."""

    def __init__(self, waiting: Waiting, answers: bool) -> None:
        self.waiting, self.answers = waiting, answers

    def post(self, topic: str, key: str, schema: str, record: dict[str, Any], failed: Any) -> None:
        del failed
        assert (topic, key, schema, record["reply_to"]) == ("journal", "acme", "Enquiry", "replies.a")
        if self.answers:
            body = b'{"left_micros":5,"held_micros":1}'
            self.waiting.deliver([("Reply", {**record, "http_status": 200, "body": body})])


@pytest.mark.parametrize("answers", [True, False])
def test_an_enquiry_is_answered_or_given_up(answers: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enquiries, "PATIENCE_S", 0.01)
    waiting = Waiting()
    asked = Enquiries(cast("Any", Log(waiting, answers)), "replies.a", waiting)
    assert asyncio.run(asked.account("acme")) == (Account(5, 1) if answers else None)
    assert not len(waiting)
