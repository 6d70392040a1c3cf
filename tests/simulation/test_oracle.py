"""The auditor over evidence that was collected after the fact, as end-to-end tests collect it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from schemas import config
from streams.memory import MemoryEngine
from tests import oracle
from tests.oracle import Evidence
from tests.oracle.books import Books
from tests.oracle.budgets import budgets
from tests.oracle.question import alike
from tests.simulation.world import CODEC, World
from tests.unit.world import T0, completion, configuration, engine, line, request


def collected(seed: int, steps: int = 1_500) -> Evidence:
    """What lies in the topics after a run; the journal by time, as partitions are merged from outside."""
    world = World(seed, remember=True).run(steps)
    places = [(n, o) for n, p in enumerate(world.journal.partitions) for o in range(p.end)]
    entries = [(world.journal.partitions[n].at(o).at_ms, n, o) for n, o in places]
    topics = world.site.engine.topics

    def read(*prefixes: str) -> list[Any]:
        return [CODEC.decode(v)[1] for t in sorted(topics) if t.startswith(prefixes) for _, v in topics[t]]

    return Evidence(
        journal=[(*world.journal.partitions[n].at(o)[:2], at) for at, n, o in sorted(entries)],
        usage=read("usage"),
        responses=read("responses"),
        waste=read("waste"),
        audit=read("audit"),
        batch_results=read("batch_results"),
        replies=read("replies."),
        work=read("work."),
    )


# In 10 and 20 calls of the batch lane begin together in two pools.
@pytest.mark.parametrize("seed", [*range(8), 10, 20])
def test_evidence_of_a_sound_run_is_sound(seed):
    assert oracle.audit(collected(seed)) == []


def lose_a_row(e: Evidence) -> None:
    e.usage.pop(len(e.usage) // 2)


def double_a_response(e: Evidence) -> None:
    e.responses.append(e.responses[3])


def bill_a_token_more(e: Evidence) -> None:
    row = next(r for r in e.usage if r["cache"] == "miss")
    e.usage[e.usage.index(row)] = {**row, "output_tokens": row["output_tokens"] + 1}


def charge_another_price(e: Evidence) -> None:
    row = next(r for r in e.usage if r["cost_micros"] > 2)
    e.usage[e.usage.index(row)] = {**row, "cost_micros": row["cost_micros"] - 1}


def answer_twice_differently(e: Evidence) -> None:
    e.replies.append({**e.replies[0], "body": b"other"})


def forget_an_audit_row(e: Evidence) -> None:
    e.audit.remove(next(a for a in e.audit if a["action"] == "block"))


def waste_what_was_billed(e: Evidence) -> None:
    row = next(r for r in e.usage if r["output_tokens"])
    e.waste.append({**row, "reason": "late", "at": row["completed_at"]})


def refuse_one_that_fits(e: Evidence) -> None:
    # The first work of an interactive request never was: it was refused instead.
    at = {(r["tenant"], r["request_id"]): t for k, r, t in e.journal if k == "Request"}
    for row in [r for r in e.usage if r["status"] == "failed" and not r["batch_id"]]:
        key = row["tenant"], row["request_id"]
        others = [r for k, r, t in e.journal if t == at[key] and k != "Tick" and r["tenant"] == row["tenant"]]
        if len(others) == 1 and at[key] % 1000:
            e.work[:] = [w for w in e.work if (w["tenant"], w["request_id"]) != key]
            refused = {"status": "refused", "error_code": "quota_exceeded", "completed_at": at[key], "attempt": ""}
            e.usage[e.usage.index(row)] = {**row, **refused}
            return
    raise AssertionError("no request to refuse")


def admit_one_that_does_not_fit(e: Evidence) -> None:
    for n, (kind, r, at) in enumerate(e.journal):
        if kind == "Policy":
            document = r["document"].replace('"on":"requests","max":', '"on":"requests","max":-')
            e.journal[n] = kind, {**r, "document": document}, at


FORGERIES: list[Callable[[Evidence], None]] = [
    lose_a_row, double_a_response, bill_a_token_more, charge_another_price, answer_twice_differently,
    forget_an_audit_row, waste_what_was_billed, refuse_one_that_fits, admit_one_that_does_not_fit,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda f: f.__name__)
def test_forged_evidence_is_seen(forge):
    evidence = collected(1)
    forge(evidence)
    assert oracle.audit(evidence)


def told(*answers: tuple[str, dict[str, Any]], asked: str = "responses.acme") -> list[str]:
    """What the books find of one request of a producer of acme that was answered so, and whose row is in order."""
    books = Books([])
    r = request(request_id="r", reply_to=asked, source="intake")
    books.take("Request", r)
    e = engine()
    e.step("Request", r, T0)
    e.step("Completion", c := completion(r), T0 + 1)
    books.take("Completion", c)
    for topic, schema in (("usage", "Usage"), ("responses", "Response")):
        books.wrote(topic, schema, e.read(topic)[0])
    for topic, more in answers:
        books.wrote(topic, "Response", {**e.read("responses")[0], **more})
    books.finish(True)
    return books.found


def decided(limit: dict[str, Any], *journal: tuple[str, dict[str, Any], int]) -> Evidence:
    """What admission writes of a journal under one limit, as it is collected afterwards."""
    e = MemoryEngine(CODEC)
    document = config.encode(config.policy_of(config.document(configuration([limit])), "acme"))
    whole = [("Policy", {"tenant": "acme", "version": "", "document": document}, T0), *journal]
    for kind, record, at in whole:
        e.step(kind, record, at)
    names = ("usage", "responses", "waste", "audit", "batch_results")
    return Evidence(whole, *(e.read(name) for name in names), replies=e.read("replies.gw"), work=e.read_work())


def test_what_is_sent_and_ends_within_a_millisecond_is_counted():
    r, late = request("a", request_id="r"), request("b", request_id="late")
    journal = [("Request", r, T0 + 1), ("Completion", completion(r), T0 + 1), ("Request", late, T0 + 2)]
    sound = decided({"on": "requests", "per": "minute", "max": 1}, *journal)
    assert [u["status"] for u in sound.usage] == ["completed", "refused"]
    assert oracle.audit(sound) == []
    # Had another fitted beside it, the same refusal would be wrong.
    wider = {**sound.journal[0][1], "document": sound.journal[0][1]["document"].replace('"max":1', '"max":2')}
    sound.journal[0] = "Policy", wider, T0
    assert oracle.audit(sound) == [f"late of acme was refused at {T0 + 2}, though it fitted every limit"]


def test_who_follows_and_is_answered_within_a_millisecond_is_counted():
    r, f, late = (request(text, request_id=i, cache="on") for text, i in (("a", "r"), ("a", "f"), ("b", "late")))
    journal = [("Request", r, T0 + 1), ("Request", f, T0 + 1), ("Completion", completion(r), T0 + 1)]
    sound = decided({"on": "requests", "per": "minute", "max": 2}, *journal, ("Request", late, T0 + 2))
    assert [u["cache"] for u in sound.usage] == ["miss", "follower", "none"]
    assert oracle.audit(sound) == []


def test_a_slot_that_is_passed_on_within_a_millisecond_is_held_once():
    a, b, c = (line(n, f"text {n}", request_id=f"l{n}") for n in range(3))
    journal = [("Request", x, T0 + 1) for x in (a, b, c)] + [("Completion", completion(x), T0 + 2) for x in (a, b)]
    sound = decided({"on": "concurrency", "max": 1}, *journal, ("Completion", completion(c), T0 + 3))
    assert [w["admitted_at"] - T0 for w in sound.work] == [1, 2, 2]
    assert oracle.audit(sound) == []


def test_an_answer_to_a_producer_is_a_reply_on_its_tenants_topic():
    right, wrong = ("responses.acme", {}), ("responses.globex", {})
    assert told(right) == told(right, right) == [], "at least once"
    assert "never answered" in told()[0]
    assert any("another's" in found for found in told(right, wrong))
    assert any("different answers" in found for found in told(right, ("responses.acme", {"body": "other"})))
    assert any("nobody waits" in found for found in told(("responses.acme", {}), asked=""))


def test_without_the_work_that_was_sent_limits_on_requests_are_judged_by_rows():
    journal = [("Policy", {"tenant": "t", "document": POLICY}, 0)]
    journal += [("Request", question(n), 60_000 + n) for n in range(4)]
    row = {"tenant": "t", "key_id": "k", "model": "m", "lane": "interactive", "status": "completed", "attempt": "a"}
    rows = [{**row, "request_id": f"r{n}", "cache": "miss", "received_at": 0} for n in range(4)]
    assert list(budgets(journal, rows[:3])) == []
    assert list(budgets(journal, rows)) == ["t: 4 requests in the window 60000, the limit is 3"]


POLICY = '{"limits": [{"on": "requests", "per": "minute", "max": 3, "model": "", "key": ""}]}'


def question(n: int) -> dict[str, Any]:
    return {"tenant": "t", "request_id": f"r{n}"}


def test_a_response_is_like_the_chat_it_means_and_like_no_other() -> None:
    chat = {"model": "echo", "messages": [{"role": "user", "content": "x"}], "max_tokens": 4}
    forms = ("x", [{"role": "user", "content": "x"}])
    said = {alike("/v1/responses", {"model": "echo", "input": form, "max_output_tokens": 4}) for form in forms}
    assert said == {alike("/v1/chat/completions", chat)}
    others = ({"input": "y"}, {"input": "x", "instructions": "z"}, {"input": [{"type": "reasoning"}]})
    assert len(said | {alike("/v1/responses", {"max_output_tokens": 4, **other}) for other in others}) == 4
