"""The quota ledger of one tenant: reserve a bound, settle what was spent, release the rest. Pure.

Invariant, for every account at every moment: spent + held <= max at each admission; afterwards spent may exceed it
only by debt, what an engine spent beyond its bound. A hold belongs to the window in which it was taken; when that
window is over, neither it nor its settlement counts any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.config import Limit, Price
from streams import windows

MILLION = 1_000_000


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


def cost_micros(price: Price, input_tokens: int, output_tokens: int) -> int:
    """Cost in micro-units, rounded half up."""
    return (input_tokens * price.input + output_tokens * price.output + MILLION // 2) // MILLION


def applying(limits: Iterable[Limit], key_id: str, model: str, requested: str) -> list[Limit]:
    """The limits that count a request of this key for this model."""
    return [x for x in limits if x.key in ("", key_id) and x.model in ("", model, requested)]


def current(accounts: Accounts, limit: Limit, now_ms: int) -> Account:
    """The limit's account, fresh if a new window has begun. A clock that steps back changes nothing."""
    window = windows.start_of(limit.per, now_ms)
    account = accounts.get(limit.id)
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
        account = current(accounts, limit, now_ms)
        if account.spent + account.held + amount > limit.max:
            until = windows.end_of(limit.per, now_ms)
            verdict = Never(limit, until) if amount > limit.max else Wait(limit, until)
            if refusal is None or (isinstance(verdict, Never), until) > (isinstance(refusal, Never), refusal.until_ms):
                refusal = verdict
            continue
        after[limit.id] = account._replace(held=account.held + amount)
        holds.append(Hold(limit.id, account.window, amount))
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
