"""Admission: what becomes of every record of the journal. Pure in (tenant state, record, the record's time).

`step` is the one entrance. The clock is the broker's timestamp of the record; before a record is looked at, everything
that was due by then is applied in due order, so that `advance(advance(s, a), b)` equals `advance(s, b)` and a replay
decides the same again.
"""

from __future__ import annotations

from typing import Any, Final, cast

from schemas.records import Cancellation, Completion, Open, Request, Started
from streams import closing, entry
from streams.closing import Emits
from streams.emission import control, ended, waste, work
from streams.ledger import Admit, Wait
from streams.state import Tenant, moment_of

# How long admission waits for a worker to answer a cancellation before it ends the request itself.
ENDING_GRACE_MS: Final = 30_000
# How long past start_by a silent pool is left before the next one is tried: clocks differ, records travel.
START_GRACE_MS: Final = 2_000
# How long an attempt that streams is given to finish once another worker has started the same request.
RIVAL_GRACE_MS: Final = 5_000
# Deferred requests released at one moment; more would hold up the records behind it.
RELEASES_AT_ONCE: Final = 100
WINDOW_WAKE: Final = "*window"


def step(tenant: Tenant, kind: str, record: Any, now_ms: int) -> Emits:
    """Decide one journal record; returns what is to be written, in order."""
    emits = advance(tenant, now_ms)
    if kind == "Request":
        on_request(tenant, cast(Request, record), now_ms, emits)
    elif kind == "Completion":
        on_completion(tenant, cast(Completion, record), now_ms, emits)
    elif kind == "Started":
        on_started(tenant, cast(Started, record), now_ms)
    elif kind == "Cancellation":
        on_cancellation(tenant, cast(Cancellation, record), now_ms, emits)
    elif kind == "Policy":
        tenant.adopt(record["document"])
        release(tenant, now_ms, emits)
    return emits


def advance(tenant: Tenant, now_ms: int) -> Emits:
    """Apply everything that is due by `now_ms`, each at its own moment."""
    emits: Emits = []
    while (moment := tenant.next_moment(now_ms)) is not None:
        for request_id in tenant.take_moment(moment):
            if request_id == WINDOW_WAKE:
                if tenant.wake == moment:
                    tenant.wake = 0
                    release(tenant, moment, emits)
            else:
                on_due(tenant, request_id, moment, emits)
    return emits


def on_request(tenant: Tenant, r: Request, now_ms: int, emits: Emits) -> None:
    """A new request, or one repeated."""
    if closing.repeated(tenant, r, emits):
        return
    decision = entry.decide(tenant, r, now_ms)
    emits += decision.audits
    o = decision.request
    if decision.verdict is not None:
        closing.close(tenant, o, decision.verdict, now_ms, emits)
    elif decision.leader is not None:
        tenant.put_open(o)
        closing.follow(tenant, o, decision.leader)
    elif decision.deferred_until is not None:
        defer(tenant, o, decision.deferred_until, now_ms)
    else:
        send(tenant, o, now_ms, emits)
    if decision.verdict is None and not o["batch_id"]:
        tenant.remind(o["request_id"], o["deadline"])


def send(tenant: Tenant, o: Open, now_ms: int, emits: Emits) -> None:
    """Write the work record for the request's current step, and keep the request."""
    assert tenant.policy is not None, "a request was admitted under a policy"
    pool = tenant.policy.document.pools.get(o["route"][o["step"]])
    has_next = o["step"] + 1 < len(o["route"])
    start_by = 0 if o["batch_id"] else o["deadline"]
    o["due"] = o["deadline"]
    if has_next and pool is not None and not o["batch_id"]:
        start_by = min(o["deadline"], now_ms + pool.first_token_timeout_ms)
        o["due"] = min(o["deadline"], start_by + START_GRACE_MS)
        tenant.remind(o["request_id"], o["due"])
    emits.append(work(tenant.name, o, pool.concurrency if pool else 1, tenant.policy.answer_rules, start_by, now_ms))
    tenant.put_open(o)


def on_started(tenant: Tenant, s: Started, now_ms: int) -> None:
    """An attempt has begun. A stream that two attempts have begun can only be finished by the first."""
    o = tenant.open(s["request_id"])
    if o is None or o["phase"] != "running":
        return
    if o["started"] and o["started"] != s["attempt"] and o["stream"]:
        o["phase"], o["ending"] = "ending", "interrupted"
        o["due"] = now_ms + RIVAL_GRACE_MS
        tenant.remind(o["request_id"], o["due"])
    else:
        o["started"] = s["attempt"]
        o["due"] = o["deadline"]
    tenant.put_open(o)


def on_completion(tenant: Tenant, c: Completion, now_ms: int, emits: Emits) -> None:
    """The end of an attempt: the first that counts ends the request, any other is waste."""
    o, done = tenant.find(c["request_id"])
    if o is None:
        if done is None or done["attempt"] != c["attempt"]:
            _waste(tenant, c, "unknown" if done is None else "late", now_ms, emits)
        return
    rival = o["stream"] and o["started"] and o["started"] != c["attempt"]
    if o["phase"] not in ("running", "ending") or rival:
        _waste(tenant, c, "duplicate", now_ms, emits)
        return
    if c["outcome"] == "unavailable":
        if c["step"] != o["step"]:
            _waste(tenant, c, "retried", now_ms, emits)
            return
        if o["phase"] == "running" and o["step"] + 1 < len(o["route"]) and not c["streamed"]:
            _waste(tenant, c, "retried", now_ms, emits)
            o["step"], o["started"] = o["step"] + 1, ""
            send(tenant, o, now_ms, emits)
            return
    closing.complete(tenant, o, c, now_ms, emits)
    release(tenant, now_ms, emits)
    for follower in closing.orphans(tenant, o):
        promote(tenant, follower, now_ms, emits)


def on_cancellation(tenant: Tenant, c: Cancellation, now_ms: int, emits: Emits) -> None:
    """A caller left, or the batcher ends a line, which may never have been submitted."""
    o, done = tenant.find(c["request_id"])
    if done is not None:
        return
    if o is None:
        o = entry.never_submitted(c)
        closing.close(tenant, o, ended(c["reason"], batch=bool(c["batch_id"])), now_ms, emits)
    elif o["phase"] in ("following", "deferred"):
        closing.close(tenant, o, ended(c["reason"], batch=bool(o["batch_id"])), now_ms, emits)
    elif o["phase"] == "running":
        if o["followers"]:
            # The work goes on for those who follow; this caller pays for what was begun in its name.
            o["reply_to"] = []
            tenant.put_open(o)
            return
        closing.forget_leader(tenant, o)
        o["phase"], o["ending"] = "ending", c["reason"]
        o["due"] = now_ms + ENDING_GRACE_MS
        tenant.put_open(o)
        tenant.remind(o["request_id"], o["due"])
        emits.append(control(tenant.name, o["request_id"], c["reason"], now_ms))


def on_due(tenant: Tenant, request_id: str, now_ms: int, emits: Emits) -> None:
    """Something was due for a request, unless it ended or moved on meanwhile."""
    o = tenant.open(request_id)
    if o is None:
        return
    if now_ms >= o["deadline"] or (o["phase"] == "ending" and now_ms >= o["due"]):
        if o["phase"] in ("running", "ending"):
            emits.append(control(tenant.name, request_id, o["ending"] or "expired", now_ms))
        closing.close(tenant, o, ended(o["ending"] or "expired", batch=bool(o["batch_id"])), now_ms, emits)
        release(tenant, now_ms, emits)
        for follower in closing.orphans(tenant, o):
            promote(tenant, follower, now_ms, emits)
    elif o["phase"] == "running" and not o["started"] and now_ms >= o["due"] and o["step"] + 1 < len(o["route"]):
        o["step"] += 1
        send(tenant, o, now_ms, emits)


def promote(tenant: Tenant, o: Open, now_ms: int, emits: Emits) -> None:
    """A follower whose leader gave no answer follows the next one, runs on its own hold, waits, or is refused."""
    known = tenant.cached(o["cache_key"])
    leader = closing.leader_of(tenant, known)
    if leader is not None:
        closing.follow(tenant, o, leader)
        return
    verdict = entry.take_hold(tenant, o, now_ms)
    if isinstance(verdict, Admit):
        o["phase"], o["leader"] = "running", ""
        closing.lead(tenant, o, known)
        send(tenant, o, now_ms, emits)
    elif isinstance(verdict, Wait) and o["lane"] == "batch":
        defer(tenant, o, verdict.until_ms, now_ms)
    else:
        closing.close(tenant, o, entry.quota_verdict(tenant, o, verdict, now_ms), now_ms, emits)


def defer(tenant: Tenant, o: Open, until_ms: int, now_ms: int) -> None:
    """Put a request of the batch lane at the end of the tenant's queue."""
    o["phase"], o["leader"] = "deferred", ""
    tenant.put_open(o)
    tenant.defer(o["request_id"], len(o["body"]))
    wake(tenant, until_ms, now_ms)


def wake(tenant: Tenant, at_ms: int, now_ms: int) -> None:
    """Look at the queue again at `at_ms`, unless that is to happen earlier anyway. One reminder stands at a time."""
    moment = moment_of(at_ms)
    if tenant.wake <= now_ms or moment < tenant.wake:
        tenant.wake = moment
        tenant.remind(WINDOW_WAKE, moment)


def release(tenant: Tenant, now_ms: int, emits: Emits) -> None:
    """Admit deferred requests, oldest first, while they fit; look again when the next window opens."""
    for _ in range(RELEASES_AT_ONCE):
        if tenant.deferred_count == 0:
            return
        o = tenant.open(tenant.oldest_deferred())
        if o is not None and o["phase"] == "deferred":
            verdict = entry.take_hold(tenant, o, now_ms)
            if isinstance(verdict, Wait):
                wake(tenant, verdict.until_ms, now_ms)
                return
            if isinstance(verdict, Admit):
                o["phase"] = "running"
                tenant.release_bytes(len(o["body"]))
                closing.lead(tenant, o, tenant.cached(o["cache_key"]) if o["cache_key"] else None)
                send(tenant, o, now_ms, emits)
            else:
                closing.close(tenant, o, entry.quota_verdict(tenant, o, verdict, now_ms), now_ms, emits)
        tenant.undefer()
    if tenant.deferred_count:
        wake(tenant, now_ms + 1, now_ms)


def _waste(tenant: Tenant, c: Completion, reason: str, now_ms: int, emits: Emits) -> None:
    if (c["input_tokens"] or c["output_tokens"]) and tenant.first_mention(c["attempt"], now_ms):
        emits.append(waste(tenant.name, c, reason, now_ms))
