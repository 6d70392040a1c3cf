"""The ledger oracle: an auditor that imports nothing from streams/.

It computes what must be so from the journal (as the broker stamped it) and from the topics, and returns every
violation it finds as a sentence. At-least-once topics may hold a record twice; they may never hold two that differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]

WINDOW_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
# Statuses that use up one of a limit on requests, whatever was generated.
COUNTED = {"completed", "blocked", "interrupted"}


@dataclass
class Evidence:
    """What was written. `journal` holds (schema name, record, broker time in ms), in the order of each partition."""

    journal: list[tuple[str, Record, int]]
    usage: list[Record]
    responses: list[Record]
    waste: list[Record]
    audit: list[Record] = field(default_factory=list)
    batch_results: list[Record] = field(default_factory=list)
    replies: list[Record] = field(default_factory=list)

    def of(self, name: str) -> list[tuple[Record, int]]:
        """(record, time) of one kind in the journal."""
        return [(r, at) for kind, r, at in self.journal if kind == name]


def identity(record: Record) -> tuple[str, str]:
    """(tenant, request id)."""
    return record["tenant"], record["request_id"]


def audit(e: Evidence, *, finished: bool = True) -> list[str]:
    """Every violation. `finished`: nothing is in flight any more, so that what is missing is lost."""
    return [*once(e, finished), *tokens(e), *answers(e), *shared(e), *budgets(e), *moderated(e)]


def once(e: Evidence, finished: bool) -> Iterable[str]:
    """One usage row and one response per request; none for what was never asked."""
    asked = {identity(r) for name in ("Request", "Cancellation") for r, _ in e.of(name)}
    for what, rows in (("usage", e.usage), ("response", e.responses)):
        counts = Counter(identity(r) for r in rows)
        yield from (f"{n} {what} rows of {i}" for i, n in counts.items() if n > 1)
        yield from (f"{what} row of {i}, which nobody asked" for i in counts.keys() - asked)
        if finished:
            yield from (f"no {what} row of {i}" for i in sorted(asked - counts.keys()))
    status = {identity(r): r["status"] for r in e.usage}
    yield from (
        f"response of {identity(r)} is {r['status']}, its usage row {status.get(identity(r))}"
        for r in e.responses
        if r["status"] != status.get(identity(r))
    )


def tokens(e: Evidence) -> Iterable[str]:
    """Engine tokens = billed + waste, to the token, attempt by attempt."""
    spent = {c["attempt"]: (c["input_tokens"], c["output_tokens"]) for c, _ in e.of("Completion")}
    booked: Counter[str] = Counter()
    for row in [*e.usage, *e.waste]:
        if row["input_tokens"] or row["output_tokens"]:
            booked[row["attempt"]] += 1
            if spent.get(row["attempt"]) != (row["input_tokens"], row["output_tokens"]):
                yield f"{identity(row)} books tokens that attempt {row['attempt']} did not spend"
    yield from (f"attempt {a} is booked {n} times" for a, n in booked.items() if n > 1)
    decided = {identity(r) for r in e.usage}
    owner = {c["attempt"]: identity(c) for c, _ in e.of("Completion")}
    for attempt, amount in spent.items():
        if any(amount) and not booked[attempt] and owner[attempt] in decided:
            yield f"attempt {attempt} spent {amount}, which nobody booked"


def answers(e: Evidence) -> Iterable[str]:
    """Who waits is told the outcome of the row, and a batch line has one result."""
    status = {identity(r): r["status"] for r in e.usage}
    told: dict[tuple[str, str], set[bytes]] = defaultdict(set)
    for reply in e.replies:
        told[identity(reply)].add(reply["body"])
        if status.get(identity(reply), reply["status"]) != reply["status"]:
            yield f"{identity(reply)} was told {reply['status']}, its row says {status[identity(reply)]}"
    yield from (f"{i} was told {len(bodies)} different answers" for i, bodies in told.items() if len(bodies) > 1)
    results: dict[tuple[str, int], set[tuple[Any, ...]]] = defaultdict(set)
    for r in e.batch_results:
        results[r["batch_id"], r["line"]].add((r["status"], r["http_status"], r["body"]))
    yield from (f"line {line} of {batch} has {len(s)} results" for (batch, line), s in results.items() if len(s) > 1)
    for row in e.usage:
        if row["batch_id"] and e.batch_results and (row["batch_id"], row["line"]) not in results:
            yield f"line {row['line']} of {row['batch_id']} has a row but no result"


def shared(e: Evidence) -> Iterable[str]:
    """A hit or a follower spends nothing and shows an answer its own tenant paid for, of the same model."""
    paid = {(r["tenant"], r["model"], r["request_id"]) for r in e.usage if r["cache"] == "miss"}
    bodies: dict[tuple[str, str], set[str]] = defaultdict(set)
    shown = {identity(r): r["body"] for r in e.responses}
    for tenant, model, request_id in paid:
        bodies[tenant, model].add(shown.get((tenant, request_id), ""))
    for r in e.usage:
        if r["cache"] in ("hit", "follower"):
            if r["input_tokens"] or r["output_tokens"] or r["cost_micros"]:
                yield f"{identity(r)} is a {r['cache']} and pays"
            if shown.get(identity(r)) not in bodies[r["tenant"], r["model"]]:
                yield f"{identity(r)} is a {r['cache']} of an answer its tenant never paid for"


def budgets(e: Evidence) -> Iterable[str]:
    """No window of a limit on requests lets more through than its maximum; deferred lines count where they ran."""
    import json

    limits: dict[str, list[dict[str, Any]]] = {}
    arrived = {identity(r): at for r, at in reversed(e.of("Request"))}
    for policy, _ in e.of("Policy"):
        limits[policy["tenant"]] = json.loads(policy["document"])["limits"]
    for tenant, own in limits.items():
        if len({str(json.loads(p["document"])["limits"]) for p, _ in e.of("Policy") if p["tenant"] == tenant}) > 1:
            continue  # they changed on the way: the windows cannot be attributed from outside
        for limit in own:
            if limit["on"] != "requests" or limit["per"] not in WINDOW_MS:
                continue
            counts: Counter[int] = Counter()
            for r in e.usage:
                mine = r["tenant"] == tenant and r["lane"] != "batch" and r["status"] in COUNTED
                mine = mine and (r["attempt"] or r["cache"] in ("hit", "follower"))
                if mine and limit["key"] in ("", r["key_id"]) and limit["model"] in ("", r["model"]):
                    at = arrived.get(identity(r), r["received_at"])
                    counts[at - at % WINDOW_MS[limit["per"]]] += 1
            for window, n in counts.items():
                if n > limit["max"]:
                    yield f"{tenant}: {n} requests in the window {window}, the limit is {limit['max']}"


def moderated(e: Evidence) -> Iterable[str]:
    """A blocked request has an audit row that blocks."""
    blocks = {identity(a) for a in e.audit if a["action"] == "block"}
    for r in e.usage:
        if r["status"] == "blocked" and r["cache"] not in ("follower", "hit") and identity(r) not in blocks:
            yield f"{identity(r)} was blocked without an audit row"
