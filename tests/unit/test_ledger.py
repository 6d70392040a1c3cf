"""Properties of the quota ledger and its windows, for any amounts and any order."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import Price
from schemas.limits import Limit
from streams import ledger, windows
from streams.ledger import Account, Admit, Need, Never, Tokens, Wait
from tests.unit import world
from tests.unit.world import adopt, completion, configuration, engine, held, request

PERS = ("second", "minute", "hour", "day", "month", None)
T0 = 1_700_000_000_000

amounts = st.integers(0, 40)
needs = st.builds(Need, st.just(1), amounts, amounts, amounts, st.just(1))
ons = st.sampled_from(("requests", "input_tokens", "output_tokens", "total_tokens", "cost_micros"))


@st.composite
def limit_sets(draw: st.DrawFn) -> list[Limit]:
    limits = {}
    for _ in range(draw(st.integers(1, 4))):
        limit = Limit(draw(ons), draw(st.integers(0, 120)), draw(st.sampled_from(PERS[:-1])))
        limits[limit.id] = limit
    if draw(st.booleans()):
        limit = Limit("concurrency", draw(st.integers(0, 5)))
        limits[limit.id] = limit
    return list(limits.values())


# A caller asks after some time, or one of the open requests ends having spent at most what it held.
steps = st.lists(st.tuples(st.booleans(), needs, st.integers(0, 90_000), st.integers(0, 99)), max_size=60)


@settings(max_examples=150, deadline=None)
@given(limit_sets(), steps)
def test_nothing_is_beyond_its_limit_and_an_account_is_the_sum_of_what_is_open_and_what_was_spent(limits, trail):
    accounts: dict[str, Account] = {}
    now, running, booked = T0, [], {}
    for asks, need, wait_ms, pick in trail:
        now += wait_ms
        if asks:
            verdict = ledger.reserve(accounts, limits, need, now)
            if isinstance(verdict, Admit):
                accounts = verdict.accounts
                running.append((need, verdict.holds))
            else:
                too_much(accounts, limits, need, now, verdict)
        elif running:
            need, holds = running.pop(pick % len(running))
            spent = Need(1, need.input_tokens * pick // 100, need.output_tokens, need.cost_micros * pick // 100)
            accounts = ledger.settle(accounts, holds, spent)
            for hold in holds:
                on = hold.limit.partition("/")[0]
                key = hold.limit, hold.window
                booked[key] = booked.get(key, 0) + (0 if on == "concurrency" else spent.of(on))
        for limit in limits:
            account = accounts.get(limit.id)
            if account is not None:
                here = (limit.id, account.window)
                held = sum(h.amount for _, taken in running for h in taken if (h.limit, h.window) == here)
                assert account.held == held and account.spent == booked.get(here, 0)
                assert account.spent + account.held <= limit.max


def too_much(accounts, limits, need, now, verdict):
    """It was refused for a limit that it does not fit, and told the moment from which it may."""
    limit = verdict.limit
    account = ledger.current(accounts, limit, now)
    assert account.spent + account.held + need.of(limit.on) > limit.max
    assert isinstance(verdict, Never) == (need.of(limit.on) > limit.max)
    assert verdict.until_ms == windows.end_of(limit.per, now) > now
    if isinstance(verdict, Wait):
        alone = ledger.reserve({}, [limit], need, now)
        assert isinstance(alone, Admit), "it waits for nothing"


@given(limit_sets(), needs, st.integers(0, 10**12))
def test_a_refusal_changes_nothing_and_an_admission_only_what_it_holds(limits, need, now):
    full = {x.id: Account(windows.start_of(x.per, now), x.max, 0) for x in limits}
    before = dict(full)
    verdict = ledger.reserve(full, limits, need, now)
    assert full == before
    assert isinstance(verdict, Admit) == all(need.of(x.on) == 0 for x in limits)
    free = ledger.reserve({}, [Limit(x.on, 10**9, x.per) for x in limits], need, now)
    assert isinstance(free, Admit)
    back = ledger.settle(free.accounts, free.holds, Need())
    assert all(a.held == a.spent == 0 for a in back.values())


@given(limit_sets(), needs)
def test_a_settlement_touches_no_later_window(limits, need):
    wide = [Limit(x.on, 10**9, x.per) for x in limits if x.per]
    first = ledger.reserve({}, wide, need, T0)
    assert isinstance(first, Admit)
    later = ledger.reserve(first.accounts, wide, need, T0 + 40 * 86_400_000)
    assert isinstance(later, Admit)
    assert ledger.settle(later.accounts, first.holds, need) == later.accounts


@given(st.sampled_from(PERS), st.integers(0, 4_000_000_000_000))
def test_a_window_holds_its_moment_and_the_next_begins_where_it_ends(per, at):
    start, end = windows.start_of(per, at), windows.end_of(per, at)
    assert start <= at < end
    if per is not None:
        assert windows.start_of(per, start) == windows.start_of(per, end - 1) == start
        assert windows.start_of(per, end) == end
    if per == "month":
        day = datetime.fromtimestamp(start / 1000, UTC)
        assert (day.day, day.hour, day.minute, start % 60_000) == (1, 0, 0, 0)
        assert day.month == datetime.fromtimestamp(at / 1000, UTC).month


@given(st.integers(0, 10**8), st.integers(0, 10**8), st.integers(0, 10**6), st.integers(0, 10**6))
def test_cost_is_rounded_once_and_never_falls_with_more_tokens(price_in, price_out, used_in, used_out):
    price = Price("v", price_in, price_out)
    cost = ledger.cost_micros(price, Tokens(used_in, used_out))
    assert abs(cost * 1_000_000 - (used_in * price_in + used_out * price_out)) <= 500_000
    assert (
        ledger.cost_micros(price, Tokens(used_in + 1, used_out))
        >= cost
        <= ledger.cost_micros(price, Tokens(used_in, used_out + 1))
    )


def test_a_hold_outlives_a_limit_that_is_taken_away_and_brought_back():
    limits = [{"on": "concurrency", "max": 1}]
    e = engine(limits)
    first, second, third = request("a"), request("b"), request("c")
    e.step("Request", first, world.T0)
    adopt(e, configuration([]), world.T0 + 1)
    adopt(e, configuration(limits), world.T0 + 2)
    e.step("Request", second, world.T0 + 3)
    e.step("Completion", completion(first), world.T0 + 4)
    e.step("Request", third, world.T0 + 5)
    running = {w["request_id"] for w in e.read_work()} - {u["request_id"] for u in e.read("usage")}
    assert len(running) == 1 and held(e) == 1
