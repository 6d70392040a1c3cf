"""Prefix affinity: what counts as a common beginning, and how much of it one partition may have."""

from collections import Counter

import pytest

from streams import affinity
from streams.affinity import HEAD_CHARS, LEAST_BYTES, WORK_PARTITIONS, Loads, beginning, choose, prefix_of
from tests.unit.world import T0, adopt, cancellation, completion, configuration, engine, request

LONG = "You answer questions about parcels. " * 20
TOPIC = "work.p1.interactive"


def asked(*contents, roles=("system", "user", "assistant", "user"), **more):
    return {"messages": [{"role": r, "content": c} for r, c in zip(roles, contents, strict=False)], **more}


def prefix(body, tenant="acme"):
    return prefix_of(tenant, body, 10_000)


def test_long_instructions_are_the_prefix_whatever_follows():
    assert prefix(asked(LONG, "a")) == prefix(asked(LONG, "b " * 900)) != 0
    assert prefix(asked(LONG, "a")) != prefix(asked(LONG + "!", "a"))


def test_a_conversation_has_the_same_prefix_from_turn_to_turn():
    turns = ["short", "q " * 400, "a " * 400, "more"]
    assert prefix(asked(*turns[:3])) == prefix(asked(*turns)) != 0


@pytest.mark.parametrize(
    "body",
    [
        asked("be kind", "hello"),
        asked("x" * (LEAST_BYTES - 1), "hello"),
        {"input": "x" * 5_000},
        {"prompt": ["x" * 5_000]},
        {"prompt": "x" * (HEAD_CHARS - 1)},
        {"messages": [{"role": "user", "content": None}], "tools": []},
    ],
)
def test_what_is_short_or_no_prompt_has_no_prefix(body):
    assert prefix(body) == 0


def test_tools_and_parts_count_and_a_cache_key_divides():
    tools = [{"type": "function", "function": {"name": f"f{i}", "description": "d " * 30}} for i in range(12)]
    assert prefix(asked("be kind", "a", tools=tools)) == prefix(asked("be kind", "b", tools=tools)) != 0
    parts = [{"type": "text", "text": LONG}, {"type": "image_url", "image_url": {}}]
    assert prefix(asked(parts, "a")) == prefix(asked(LONG, "b"))
    assert prefix(asked(LONG, "a", prompt_cache_key="x")) != prefix(asked(LONG, "a", prompt_cache_key="y"))
    assert prefix({"prompt": LONG * 2 + "a"}) == prefix({"prompt": LONG * 2 + "b"}) != 0


def test_tenants_do_not_meet():
    assert prefix(asked(LONG, "a"), "acme") != prefix(asked(LONG, "a"), "globex")


def test_a_small_body_is_not_looked_at():
    assert prefix_of("acme", asked(LONG, "a"), LEAST_BYTES - 1) == 0
    assert len(beginning(asked("z" * 100_000, "a"))) == affinity.MOST_CHARS


def test_a_prefix_stays_while_its_partition_has_slots():
    counts = [0, 0, 0, 0]
    for _ in range(16):
        at = choose(counts, 8, 64)
        assert at == 0
        counts[at] += 1
    assert choose(counts, 8, 64) != 0


@pytest.mark.parametrize("step_bit", [0, 64])
@pytest.mark.parametrize("concurrency", [1, 2, 3, 4, 7, 8, 256])
def test_a_popular_prefix_never_has_a_partition_far_above_an_even_share(concurrency, step_bit):
    usable = min(concurrency, WORK_PARTITIONS)
    counts = [0] * WORK_PARTITIONS
    for n in range(1, 2_001):
        at = choose(counts, 5 + step_bit, concurrency)
        assert at < usable
        counts[at] += 1
        assert counts[at] <= max(-(-n * 5 // (4 * usable)), -(-concurrency // WORK_PARTITIONS))
    assert sum(counts[:usable]) == 2_000


def test_counts_come_back_from_the_ledger_and_end_at_nothing():
    loads = Loads(None)
    places = [loads.enter(TOPIC, 8, 8) for _ in range(9)]
    again = Loads(loads.fields())
    assert again.fields() == loads.fields() and sum(again.fields()["loads"][0]["open"]) == 9
    for place in places:
        again.leave(TOPIC, place)
    assert again.fields() == {"loads": []}


def work_places(e, topic=TOPIC):
    return [affinity.KEYS.index(key) for key, _ in e.topics[topic]]


def long_request(n, **more):
    body = {**asked(LONG, f"question {n}"), "max_tokens": 5}
    return request(model="two", body=body, **more)


def counted(e):
    e.restart()  # as after a restore: only what was written counts
    return e.tenant("acme").loads.fields()["loads"]


def test_requests_with_one_prefix_share_a_partition_as_they_come_and_go():
    e = engine()
    for n in range(40):
        r = long_request(n)
        e.step("Request", r, T0 + n)
        e.step("Completion", completion(r, pool="p1"), T0 + n)
    assert len(set(work_places(e))) == 1 and counted(e) == []


def test_many_at_once_spread_over_all_partitions_and_lanes_are_counted_apart():
    e = engine()
    for n in range(40):
        e.step("Request", long_request(n), T0)
    spread = Counter(work_places(e))
    assert max(spread.values()) <= 13 and len(spread) == WORK_PARTITIONS
    e.step("Request", long_request(99, lane="standard"), T0)
    first = work_places(e)[0]
    assert work_places(e, "work.p1.standard") == [first]


def test_however_a_request_ends_it_is_counted_no_more():
    e = engine()
    rs = [long_request(n, deadline=T0 + 10_000) for n in range(5)]
    for r in rs:
        e.step("Request", r, T0)
    assert counted(e) == [{"topic": TOPIC, "open": [sum(p == i for p in work_places(e)) for i in range(4)]}]
    # The next pool takes over one, which leaves the first.
    e.step("Completion", completion(rs[0], outcome="unavailable", pool="p1"), T0 + 1)
    assert {x["topic"]: sum(x["open"]) for x in counted(e)} == {TOPIC: 4, "work.p2.interactive": 1}
    adopt(e, configuration([{"on": "requests", "per": "minute", "max": 9}]), T0 + 2)
    e.step("Completion", completion(rs[0], pool="p2", step=1), T0 + 3)
    e.step("Completion", completion(rs[1], outcome="invalid", http_status=400, pool="p1"), T0 + 4)
    e.step("Cancellation", cancellation(rs[2]), T0 + 5)
    e.step("Completion", completion(rs[2], outcome="cancelled", pool="p1"), T0 + 6)
    assert sum(counted(e)[0]["open"]) == 2
    e.advance(T0 + 60_000)
    assert counted(e) == []
