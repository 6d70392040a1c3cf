"""What a request costs: kinds of tokens, lanes, cache states; and the prepaid balance."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Price
from streams import ledger
from streams.ledger import WHOLE, Tokens
from tests.unit.world import T0, adopt, completion, configuration, credit, engine, held, line, request, rows

PRICE = {
    "version": "v2", "input": 1_000_000, "output": 4_000_000, "cached_input": 100_000, "reasoning": 2_000_000,
    "batch_percent": 50, "hit_percent": 10, "follower_percent": 25,
}  # fmt: skip
MODELS = {"echo": {"route": ["echo"], "price": PRICE}}
SAME = {"temperature": 0}

prices = st.builds(
    Price,
    input=st.integers(0, 10**9),
    output=st.integers(0, 10**9),
    cached_input=st.none() | st.integers(0, 10**9),
    reasoning=st.none() | st.integers(0, 10**9),
    batch_percent=st.integers(0, 200),
)
counts = st.integers(0, 10**7)


@given(prices, counts, counts, counts, counts, st.sampled_from(("batch", "interactive")))
def test_no_tokens_within_the_bound_cost_more_than_the_bound(price, used_in, used_out, cached, reasoning, lane):
    share = ledger.share_of(price, lane, "miss")
    cost = ledger.cost_micros(price, Tokens(used_in, used_out, cached, reasoning), share)
    assert 0 <= cost <= ledger.cost_bound(price, used_in, used_out, share)


@pytest.mark.parametrize(
    ("tokens", "lane", "cache", "micros"),
    [
        (Tokens(100, 10), "interactive", "miss", 140),
        (Tokens(100, 10, cached=90), "interactive", "miss", 10 + 9 + 40),
        (Tokens(100, 10, reasoning=5), "interactive", "miss", 100 + 20 + 10),
        (Tokens(100, 10), "batch", "miss", 70),
        (Tokens(100, 10), "interactive", "hit", 14),
        (Tokens(100, 10), "batch", "follower", 17 + 1),  # 17.5, half up
        (Tokens(1, 0, cached=5), "interactive", "miss", 0),  # an engine that miscounts makes nothing negative
    ],
)
def test_each_kind_of_token_has_its_price(tokens, lane, cache, micros):
    price = Price(**PRICE)
    assert ledger.cost_micros(price, tokens, ledger.share_of(price, lane, cache)) == micros


def test_a_price_without_extras_is_what_it_always_was():
    price = Price("v1", 1_000_000, 2_000_000)
    assert ledger.cost_micros(price, Tokens(3, 4, cached=2, reasoning=1), WHOLE) == 11


def test_a_hit_a_follower_and_a_batch_line_pay_their_part():
    e = engine(models=MODELS)
    leader, follower, late = (request("same words", body=SAME) for _ in range(3))
    b = line(1, "other words", body={"temperature": 1})
    e.step("Request", leader, T0)
    e.step("Request", follower, T0)
    e.step("Completion", completion(leader, input_tokens=100, output_tokens=10), T0 + 1)
    e.step("Request", late, T0 + 2)
    e.step("Request", b, T0 + 2)
    e.step("Completion", completion(b, input_tokens=100, output_tokens=10), T0 + 3)
    found = rows(e)
    order = [found[r["request_id"]] for r in (leader, follower, late, b)]
    assert [row["cache"] for row in order] == ["miss", "follower", "hit", "miss"]
    assert [row["cost_micros"] for row in order] == [140, 35, 14, 70]
    assert all(found[r["request_id"]]["input_tokens"] == 0 for r in (follower, late))
    assert {row["price_version"] for row in found.values()} == {"v2"}
    assert [row["list_micros"] for row in order] == [140, 140, 140, 140], "what each would have cost in full"
    shared = [(row["shared_input_tokens"], row["shared_output_tokens"]) for row in order]
    assert shared == [(0, 0), (100, 10), (100, 10), (0, 0)]


def test_a_promoted_follower_holds_the_whole_price():
    e = engine([{"on": "cost_micros", "per": "day", "max": 10_000}], models=MODELS)
    leader, follower = (request("same words", body={**SAME, "max_tokens": 10}) for _ in range(2))
    e.step("Request", leader, T0)
    alone = held(e)
    e.step("Request", follower, T0)
    assert held(e) == alone + -(-alone * 25 // 100)
    e.step("Completion", completion(leader, "failed"), T0 + 1)
    assert held(e) == alone
    e.step("Completion", completion(follower, input_tokens=2, output_tokens=10), T0 + 2)
    assert held(e) == 0 and rows(e)[follower["request_id"]]["cost_micros"] == 42


def test_a_prepaid_tenant_spends_what_was_credited_and_no_more():
    e = engine(models=MODELS, tenant={"prepaid": True})
    r = [request(f"word {i}", body={"max_tokens": 10}) for i in range(4)]  # at most 2 + 40 each
    e.step("Request", r[0], T0)
    assert rows(e)[r[0]["request_id"]]["error_code"] == "insufficient_quota"
    e.step("Credit", credit("c1", 50), T0 + 1)
    e.step("Credit", credit("c1", 50), T0 + 2)  # told twice, booked once
    e.step("Request", r[1], T0 + 3)
    e.step("Request", r[2], T0 + 3)
    assert rows(e)[r[2]["request_id"]]["status"] == "refused", "42 are held of 50"
    e.step("Completion", completion(r[1], input_tokens=2, output_tokens=1), T0 + 4)
    e.step("Request", r[3], T0 + 5)  # 6 spent, 44 left
    e.step("Completion", completion(r[3], input_tokens=2, output_tokens=10), T0 + 6)
    assert sum(row["cost_micros"] for row in rows(e).values()) == 48
    e.step("Credit", credit("c2", 3, "refund"), T0 + 7)
    assert [(c["kind"], c["balance_micros"]) for c in e.read("credits")] == [("credit", 50), ("refund", 5)]


def test_batch_lines_wait_for_a_credit():
    e = engine(models=MODELS, tenant={"prepaid": True})
    b = line(1, body={"max_tokens": 10})
    e.step("Request", b, T0)
    assert not rows(e) and not e.read_work()
    e.step("Credit", credit("c1", 100), T0 + 5_000)
    assert [w["request_id"] for w in e.read_work()] == [b["request_id"]]


def test_a_balance_outlives_policies_and_restarts():
    e = engine(models=MODELS, tenant={"prepaid": True})
    e.step("Credit", credit("c1", 100), T0)
    r = request(body={"max_tokens": 10})
    e.step("Request", r, T0)
    e.step("Completion", completion(r, input_tokens=2, output_tokens=10), T0 + 1)
    adopt(e, configuration(models=MODELS), T0 + 2)
    adopt(e, configuration(models=MODELS, tenant={"prepaid": True}), T0 + 3)
    e.restart()
    e.step("Credit", credit("c2", 1), T0 + 4)
    assert e.read("credits")[-1]["balance_micros"] == 59
