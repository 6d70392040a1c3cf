"""A second auditor of quota: walks the journal with a ledger of its own. Imports nothing from streams/.

For a tenant that uses neither dedupe nor batches nor splits on models of the engine `echo`, what a request may spend
follows from its record: words of all messages, and `max_tokens` (or the words to be repeated) for the answer. So spent
and held are known before every record, and every verdict in the rows can be judged.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

Record = Mapping[str, Any]
Entry = tuple[str, Record, int]

MILLION = 1_000_000
WINDOW_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
COUNTED = ("completed", "blocked", "interrupted")


class Amount(NamedTuple):
    """What a request may spend of a limit. They differ for cost, where rounding may take one more."""

    least: int
    most: int


@dataclass
class Account:
    """One limit in its current window."""

    window: int = 0
    spent: int = 0
    held: dict[str, Amount] = field(default_factory=dict)

    def room(self, maximum: int, amount: Amount) -> Amount:
        """What would be left of `maximum` if all holds and this amount were the least, or the most, they may be."""
        least = maximum - self.spent - sum(h.least for h in self.held.values()) - amount.least
        most = maximum - self.spent - sum(h.most for h in self.held.values()) - amount.most
        return Amount(least, most)


@dataclass
class Walk:
    """What the walk found. `accounts` are as they stand at its end, by limit (on, per)."""

    violations: list[str] = field(default_factory=list)
    admitted: int = 0
    refused: int = 0
    accounts: dict[tuple[str, str], Account] = field(default_factory=lambda: defaultdict(Account))

    @property
    def held(self) -> int:
        """Holds that never ended."""
        return sum(len(account.held) for account in self.accounts.values())


class _Walker:
    def __init__(self, tenant: str, usage: Iterable[Record]) -> None:
        self.tenant = tenant
        self.rows = {row["request_id"]: row for row in usage if row["tenant"] == tenant}
        self.walk = Walk()
        self.policy: dict[str, Any] = {}
        self.seen: set[str] = set()
        self.silent: dict[str, int] = {}

    def take(self, name: str, record: Record, at: int) -> None:
        for request_id, ended_at in list(self.silent.items()):
            if ended_at <= at:
                self._settle(request_id, 0, 0)
        if name == "Policy":
            self.policy = json.loads(record["document"])
        elif name == "Request" and record["request_id"] not in self.seen:
            self._request(record, at)
        elif name == "Completion":
            row = self.rows.get(record["request_id"])
            if row is not None and row["attempt"] == record["attempt"]:
                self._settle(record["request_id"], row["input_tokens"], row["output_tokens"])

    def _request(self, r: Record, at: int) -> None:
        request_id = r["request_id"]
        self.seen.add(request_id)
        row = self.rows.get(request_id)
        if row is None:
            self.walk.violations.append(f"{request_id} has no row")
            return
        assert not r["batch_id"] and row["cache"] in ("none", "miss"), "the walk knows neither batches nor dedupe"
        need, limits = self._amounts(r, row), self._limits(r, row)
        rooms = [self._account(limit, at).room(limit["max"], need[limit["on"]]) for limit in limits]
        if row["error_code"] == "quota_exceeded":
            self.walk.refused += 1
            if all(room.most >= 0 for room in rooms):
                self.walk.violations.append(f"{request_id} was refused though there was room for it: {rooms}")
            return
        if row["status"] == "refused":
            return
        self.walk.admitted += 1
        if any(room.least < 0 for room in rooms):
            self.walk.violations.append(f"{request_id} was admitted beyond a limit: {rooms}")
        for limit in limits:
            self._account(limit, at).held[request_id] = need[limit["on"]]
        if not row["attempt"]:
            self.silent[request_id] = row["completed_at"]

    def _limits(self, r: Record, row: Record) -> list[dict[str, Any]]:
        return [
            limit
            for limit in self.policy["limits"]
            if limit["key"] in ("", r["key_id"]) and limit["model"] in ("", row["model"], r["model"])
        ]

    def _account(self, limit: Mapping[str, Any], at: int) -> Account:
        account = self.walk.accounts[limit["on"], limit["per"] or ""]
        window = start_of(limit["per"], at)
        if window > account.window:
            account.window, account.spent, account.held = window, 0, {}
        return account

    def _amounts(self, r: Record, row: Record) -> dict[str, Amount]:
        body = json.loads(r["body"])
        said = [m["content"] for m in body["messages"]]
        asked = sum(len(text.split()) for text in said)
        answer = body.get("max_tokens") or max(1, len(said[-1].split()))
        cost = self._cost(row, asked, answer)
        exact = {"requests": 1, "input_tokens": asked, "output_tokens": answer, "concurrency": 1}
        exact["total_tokens"] = asked + answer
        return {**{on: Amount(n, n) for on, n in exact.items()}, "cost_micros": Amount(cost, cost + 1)}

    def _cost(self, row: Record, asked: int, answered: int) -> int:
        price = self.policy["models"][row["model"]].get("price") or {}
        return int((asked * price.get("input", 0) + answered * price.get("output", 0) + MILLION // 2) // MILLION)

    def _settle(self, request_id: str, asked: int, answered: int) -> None:
        self.silent.pop(request_id, None)
        row = self.rows[request_id]
        spent = {
            "requests": int(row["status"] in COUNTED or bool(asked or answered)),
            "input_tokens": asked,
            "output_tokens": answered,
            "total_tokens": asked + answered,
            "cost_micros": self._cost(row, asked, answered),
            "concurrency": 0,
        }
        for (on, _), account in self.walk.accounts.items():
            if account.held.pop(request_id, None) is not None:
                account.spent += spent[on]


def start_of(per: str | None, at: int) -> int:
    """Start of the window around `at`, ms UTC; 0 where there is no window."""
    if per is None:
        return 0
    if per != "month":
        return at - at % WINDOW_MS[per]
    first = datetime.fromtimestamp(at / 1_000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return int(first.timestamp()) * 1_000


def walk(tenant: str, journal: Iterable[Entry], usage: Iterable[Record]) -> Walk:
    """Judge every verdict of a tenant. `journal` holds (schema name, record, broker time in ms) in its order."""
    walker = _Walker(tenant, usage)
    for name, record, at in journal:
        if record.get("tenant") == tenant:
            walker.take(name, record, at)
    return walker.walk
