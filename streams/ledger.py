"""The quota ledger of one tenant: reserve a bound, settle what was spent, release the rest. Pure.

Invariant, for every account at every moment: spent + held <= max at each admission; afterwards spent may exceed it
only by debt, what an engine spent beyond its bound. A hold belongs to the window in which it was taken; when that
window is over, neither it nor its settlement counts any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.config import Price
from schemas.limits import Limit
from streams import windows

MILLION: Final = 1_000_000
# Of a whole price: percent of the lane times percent of the cache state.
WHOLE: Final = 100 * 100
# The account of a prepaid balance. No limit that an operator writes has this id: a cost always has a window.
PREPAID: Final = "cost_micros/now//"


class Account(NamedTuple):
    """One limit's counters in its current window (`window` is its start, ms)."""

    window: int
    spent: int = 0
    held: int = 0


class Hold(NamedTuple):
    """What one request holds of one limit."""

    limit: str
    window: int
    amount: int


class Need(NamedTuple):
    """Upper bounds of what a request may spend; after it ran, what it did spend."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    concurrency: int = 0

    def of(self, on: str) -> int:
        """The amount a limit on `on` counts."""
        if on == "total_tokens":
            return self.input_tokens + self.output_tokens
        return int(getattr(self, on))


class Admit(NamedTuple):
    """It fits: the accounts after the reservation, and the holds taken."""

    accounts: dict[str, Account]
    holds: tuple[Hold, ...]


class Wait(NamedTuple):
    """It does not fit now, but may from `until_ms` on."""

    limit: Limit
    until_ms: int


class Never(NamedTuple):
    """It is larger than the whole limit."""

    limit: Limit
    until_ms: int


Accounts = Mapping[str, Account]


class Tokens(NamedTuple):
    """An engine's counts; `cached` are of the input, `reasoning` of the output."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


def share_of(price: Price, lane: str, cache: str) -> int:
    """What part of the whole price (WHOLE) a request of this lane pays whose answer is a miss, hit or follower."""
    percent = {"hit": price.hit_percent, "follower": price.follower_percent}.get(cache, 100)
    return percent * (price.batch_percent if lane == "batch" else 100)


def cost_micros(price: Price, tokens: Tokens, share: int = WHOLE) -> int:
    """Cost in micro-units, rounded half up."""
    # An engine that miscounts must not make a negative amount of the rest.
    cached, reasoning = min(tokens.cached, tokens.input), min(tokens.reasoning, tokens.output)
    whole = (
        (tokens.input - cached) * price.input
        + cached * (price.input if price.cached_input is None else price.cached_input)
        + (tokens.output - reasoning) * price.output
        + reasoning * (price.output if price.reasoning is None else price.reasoning)
    )
    return (whole * share + MILLION * WHOLE // 2) // (MILLION * WHOLE)


def cost_bound(price: Price, input_tokens: int, output_tokens: int, share: int = WHOLE) -> int:
    """The most that so many tokens can cost, whatever part of them is cached or reasoning, rounded up."""
    dearest_in, dearest_out = max(price.input, price.cached_input or 0), max(price.output, price.reasoning or 0)
    whole = (input_tokens * dearest_in + output_tokens * dearest_out) * share
    return -(-whole // (MILLION * WHOLE))


def balance(credited_micros: int) -> Limit:
    """The limit that a prepaid balance is: all that was ever credited, in one window without end."""
    return Limit(on="cost_micros", max=credited_micros)


def current(accounts: Accounts, limit: Limit, now_ms: int) -> Account:
    """The limit's account, fresh if a new window has begun. A clock that steps back changes nothing."""
    return _current(accounts.get(limit.id), limit, now_ms)


def _current(account: Account | None, limit: Limit, now_ms: int) -> Account:
    window = windows.start_of(limit.per, now_ms)
    return account if account is not None and account.window >= window else Account(window)


def reserve(accounts: Accounts, limits: Iterable[Limit], need: Need, now_ms: int) -> Admit | Wait | Never:
    """Hold `need` against every limit, or none: the verdict names the limit that frees itself last."""
    after = dict(accounts)
    holds: list[Hold] = []
    refusal: Wait | Never | None = None
    for limit in limits:
        amount = need.of(limit.on)
        if amount == 0:
            continue
        name = limit.id
        account = _current(accounts.get(name), limit, now_ms)
        if account.spent + account.held + amount > limit.max:
            until = windows.end_of(limit.per, now_ms)
            # A balance may still be filled up; a window never grows.
            never = amount > limit.max and name != PREPAID
            verdict = Never(limit, until) if never else Wait(limit, until)
            if refusal is None or (isinstance(verdict, Never), until) > (isinstance(refusal, Never), refusal.until_ms):
                refusal = verdict
            continue
        after[name] = Account(account.window, account.spent, account.held + amount)
        holds.append(Hold(name, account.window, amount))
    return refusal or Admit(after, tuple(holds))


def settle(accounts: Accounts, holds: Iterable[Hold], spent: Need) -> dict[str, Account]:
    """Give the holds back and book what was spent instead."""
    after = dict(accounts)
    for hold in holds:
        account = after.get(hold.limit)
        if account is None or account.window != hold.window:
            continue
        on = hold.limit.partition("/")[0]
        booked = 0 if on == "concurrency" else spent.of(on)
        after[hold.limit] = Account(account.window, account.spent + booked, account.held - hold.amount)
    return after


def headers(accounts: Accounts, limits: Iterable[Limit], now_ms: int) -> dict[str, str]:
    """`x-ratelimit-*` of the tightest limit on requests and on tokens."""
    out: dict[str, str] = {}
    tightest: dict[str, tuple[int, Limit]] = {}
    for limit in limits:
        unit = {"requests": "requests", "total_tokens": "tokens"}.get(limit.on)
        if unit is None:
            continue
        account = current(accounts, limit, now_ms)
        left = max(0, limit.max - account.spent - account.held)
        if unit not in tightest or left < tightest[unit][0]:
            tightest[unit] = (left, limit)
    for unit, (left, limit) in tightest.items():
        out[f"x-ratelimit-limit-{unit}"] = str(limit.max)
        out[f"x-ratelimit-remaining-{unit}"] = str(left)
        out[f"x-ratelimit-reset-{unit}"] = f"{-(-(windows.end_of(limit.per, now_ms) - now_ms) // 1000)}s"
    return out
