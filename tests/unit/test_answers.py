"""The cache of answers: time, number and size are bounded, and the oldest go first."""

from schemas.config import Cache
from schemas.wire import StateCodec
from streams.answers import OVERHEAD, Answers
from streams.memory import MemoryTable
from tests.unit.world import T0, adopt, completion, configuration, engine, request, rows

SAME = {"temperature": 0}


def answer(expires_at, body=b"x"):
    counts = dict.fromkeys(("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"), 1)
    return {"leader": "", "expires_at": expires_at, "http_status": 200, "body": body, **counts}


def asked(e, now, text="hello"):
    r = request(text, body=SAME)
    e.step("Request", r, now)
    if r["request_id"] not in rows(e):
        e.step("Completion", completion(r), now)
    return rows(e)[r["request_id"]]["cache"]


def test_number_and_size_are_bounded_and_the_oldest_go_first():
    table = MemoryTable()
    answers = Answers(table, StateCodec(), None)
    limits = Cache(max_answers=3, max_bytes=10 * (OVERHEAD + 100))
    for i in range(10):
        answers.keep(f"k{i}", answer(T0 + 1_000), limits, T0)
    assert [k for k in (f"k{i}" for i in range(10)) if answers.get(k)] == ["k7", "k8", "k9"]
    answers.keep("big", answer(T0 + 1_000, b"y" * 2_400), limits, T0)
    assert answers.size <= limits.max_bytes and answers.get("big")
    assert len(table.values) == 2 * answers.count


def test_what_is_too_old_is_removed_when_another_is_kept():
    table = MemoryTable()
    answers = Answers(table, StateCodec(), None)
    for i in range(4):
        answers.keep(f"k{i}", answer(T0 + 1_000), Cache(), T0)
    answers.keep("new", answer(T0 + 9_000), Cache(), T0 + 2_000)
    assert [k for k in ("k0", "k1", "k2", "k3", "new") if answers.get(k)] == ["new"]
    assert answers.count == 1 and len(table.values) == 2


def test_an_answer_kept_again_is_as_young_as_the_last_time():
    answers = Answers(MemoryTable(), StateCodec(), None)
    answers.keep("a", answer(T0 + 1_000), Cache(), T0)
    answers.keep("b", answer(T0 + 1_000), Cache(), T0)
    answers.keep("a", answer(T0 + 5_000), Cache(), T0 + 3_000)
    assert answers.get("a") and not answers.get("b")


def test_the_time_an_answer_may_be_given_again_is_the_tenants():
    e = engine(tenant={"cache": {"ttl_s": 10}})
    assert [asked(e, T0), asked(e, T0 + 9_999), asked(e, T0 + 10_000)] == ["miss", "hit", "miss"]
    off = engine(tenant={"cache": {"ttl_s": 0}})
    assert [asked(off, T0), asked(off, T0 + 1)] == ["miss", "miss"]


def test_an_answer_let_through_by_other_rules_is_not_given():
    e = engine(rules=[{"id": "a", "match": "something banned"}])
    assert [asked(e, T0), asked(e, T0 + 1)] == ["miss", "hit"]
    adopt(e, configuration(rules=[{"id": "b", "match": "another thing"}]), T0 + 2)
    assert asked(e, T0 + 3) == "miss"


def test_a_large_answer_is_given_once():
    e = engine()
    for n, cache in enumerate(("miss", "miss")):
        r = request("large", body=SAME)
        e.step("Request", r, T0 + n)
        e.step("Completion", completion(r, body=b'"' + b"z" * 300_000 + b'"'), T0 + n)
        assert rows(e)[r["request_id"]]["cache"] == cache


def erasure(*ids):
    record = {"tenant": "acme", "erasure_id": "e", "part": 1, "parts": 1, "request_ids": list(ids)}
    return {**record, "answers": 0, "replies": 0, "at": T0}


def test_an_erasure_empties_the_cache_and_forgets_kept_replies():
    e = engine()
    assert [asked(e, T0), asked(e, T0 + 1), asked(e, T0 + 2, "another")] == ["miss", "hit", "miss"]
    kept, others = (request(text, body=SAME, repeatable=True) for text in ("kept", "others"))
    for r in (kept, others):
        e.step("Request", r, T0 + 3)
        e.step("Completion", completion(r), T0 + 4)
    leads = request("in flight", body=SAME)
    e.step("Request", leads, T0 + 5)
    assert e.tenant("acme").answers.count == 4
    (told,) = e.step("Erasure", erasure(kept["request_id"], leads["request_id"], "never seen"), T0 + 6)
    assert (told.topic, told.schema) == ("erasures", "Erasure")
    assert [told.record[name] for name in ("answers", "replies", "request_ids", "at")] == [4, 1, [], T0 + 6]
    assert (e.tenant("acme").answers.count, e.tenant("acme").answers.size) == (0, 0)
    stored = e.stores["acme"].requests.values
    assert b"choices" in stored[others["request_id"]] and b"choices" not in stored[kept["request_id"]]
    again = [e.step("Request", {**r, "reply_to": "replies.b"}, T0 + 7) for r in (kept, others)]
    assert [[(emit.topic, emit.record["http_status"]) for emit in emits] for emits in again] == [
        [("replies.b", 410)],
        [("replies.b", 200)],
    ]
    follower = request("in flight", body=SAME)
    e.step("Request", follower, T0 + 8)
    e.step("Completion", completion(leads), T0 + 9)
    assert rows(e)[follower["request_id"]]["cache"] == "follower", "who leads goes on"
    assert asked(e, T0 + 10) == "miss"
    (told,) = e.step("Erasure", erasure(kept["request_id"]), T0 + 11)
    assert [told.record[name] for name in ("answers", "replies")] == [2, 0]


def test_an_erased_cache_has_nothing_left_in_its_table():
    table = MemoryTable()
    answers = Answers(table, StateCodec(), None)
    for i in range(5):
        answers.keep(f"k{i % 3}", answer(T0 + 1_000 + i), Cache(), T0)
    answers.lead("k9", "r1")
    assert answers.clear() == 5 and answers.clear() == 0
    assert list(table.values) == ["k9"]
