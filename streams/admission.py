"""Admission: what becomes of every record of the journal. Pure in (tenant state, record, the record's time).

`step` is the one entrance. The clock is the broker's timestamp of the record; before a record is looked at, everything
that was due by then is applied in due order, so that `advance(advance(s, a), b)` equals `advance(s, b)` and a replay
decides the same again.
"""

from __future__ import annotations

from typing import Any, Final, cast

from schemas import topics
from schemas.records import Cancellation, Circuit, Completion, Credit, Enquiry, Erasure, Open, Request, Started
from streams import account, closing, emission, entry, guarding, ledger, quota, sequence
from streams.closing import Emits
from streams.dispatch import GUARD_STEP, given_up, send, send_on, sent_at
from streams.emission import Emit, control
from streams.ledger import Admit, Wait
from streams.opening import never_submitted, opened
from streams.sequence import TURNS_AT_ONCE
from streams.state import Tenant
from streams.verdict import ended
from streams.waiting import WINDOW_WAKE, defer, next_look, release

# How long admission waits for a worker to answer a cancellation before it ends the request itself.
ENDING_GRACE_MS: Final = 30_000
# How long an attempt that streams is given to finish once another worker has started the same request.
RIVAL_GRACE_MS: Final = 5_000
# How long an open circuit is believed: the controller tries a pool again, and says so, at least every minute.
CIRCUIT_LEASE_MS: Final = 180_000


def step(tenant: Tenant, kind: str, record: Any, now_ms: int) -> Emits:
    """Decide one journal record; returns what is to be written, in order."""
    emits = advance(tenant, now_ms)
    decide(tenant, kind, record, now_ms, emits)
    take_turns(tenant, now_ms, emits)
    return emits


def decide(tenant: Tenant, kind: str, record: Any, now_ms: int, emits: Emits) -> None:
    """What the record itself means."""
    if kind == "Request":
        on_request(tenant, cast(Request, record), now_ms, emits)
    elif kind == "Completion":
        on_completion(tenant, cast(Completion, record), now_ms, emits)
    elif kind == "Started":
        on_started(tenant, cast(Started, record), now_ms)
    elif kind == "Cancellation":
        on_cancellation(tenant, cast(Cancellation, record), now_ms, emits)
    elif kind == "Credit":
        on_credit(tenant, cast(Credit, record), now_ms, emits)
    elif kind == "Erasure":
        emits.append(closing.forget(tenant, cast(Erasure, record), now_ms))
    elif kind == "Enquiry":
        emits.append(account.told(tenant, cast(Enquiry, record)))
    elif kind == "Circuit":
        on_circuit(tenant, cast(Circuit, record), now_ms)
    elif kind == "Policy":
        tenant.adopt(record["document"])
        release(tenant, now_ms, emits)


def advance(tenant: Tenant, now_ms: int) -> Emits:
    """Apply everything that is due by `now_ms`, each at its own moment."""
    emits: Emits = []
    while (moment := tenant.agenda.due(now_ms)) is not None:
        for request_id in tenant.agenda.take(moment):
            if request_id == WINDOW_WAKE:
                if tenant.wake == moment:
                    tenant.wake = 0
                    release(tenant, moment, emits)
            else:
                on_due(tenant, request_id, moment, emits)
        take_turns(tenant, moment, emits)
    return emits


def on_request(tenant: Tenant, r: Request, now_ms: int, emits: Emits) -> None:
    """A new request, or one repeated."""
    if closing.repeated(tenant, r, emits):
        return
    if not r["batch_id"] and now_ms >= r["deadline"]:
        closing.close(tenant, opened(r), ended("expired", batch=False), now_ms, emits)
    elif r["order_key"] and tenant.sequences.end(r["order_key"])[0]:
        o = opened(r)
        full = sequence.queue(tenant, o, r["order_key"])
        if full is not None:
            closing.close(tenant, o, full, now_ms, emits)
        else:
            tenant.agenda.remind(o["request_id"], o["deadline"])
    else:
        admit(tenant, r, now_ms, emits)


def admit(tenant: Tenant, r: Request, now_ms: int, emits: Emits, queued: Open | None = None) -> None:
    """Decide a request; `queued` is what it was while it waited for those before it."""
    decision = entry.decide(tenant, r, now_ms)
    emits += decision.audits
    o = decision.request
    if queued is not None:
        o["order_key"], o["next"], o["reply_to"] = queued["order_key"], queued["next"], queued["reply_to"]
    elif r["order_key"]:
        sequence.begin(tenant, o, r["order_key"])
    if decision.verdict is not None:
        bill = closing.shared_bill(o, quota.tokens_of(decision.hit), "hit") if decision.hit else None
        closing.close(tenant, o, decision.verdict, now_ms, emits, bill)
    elif decision.leader is not None:
        closing.follow(tenant, o, decision.leader)
    elif decision.deferred_until is not None:
        defer(tenant, o, decision.deferred_until, now_ms)
    else:
        send(tenant, o, now_ms, emits)
    if decision.verdict is None and not o["batch_id"] and queued is None:
        tenant.agenda.remind(o["request_id"], o["deadline"])


def take_turns(tenant: Tenant, now_ms: int, emits: Emits) -> None:
    """Decide those who waited for a request of the same order key that has ended; what is too much waits a second."""
    turns = tenant.sequences.turns
    for _ in range(TURNS_AT_ONCE):
        if not turns:
            return
        take_turn(tenant, turns.pop(0), now_ms, emits)
    for request_id in turns:
        tenant.agenda.remind(request_id, now_ms + 1)
    turns.clear()


def take_turn(tenant: Tenant, request_id: str, now_ms: int, emits: Emits) -> None:
    """Decide a queued request, unless it has ended."""
    o = tenant.open(request_id)
    if o is not None and o["phase"] == "queued":
        sequence.take(tenant, o)
        admit(tenant, sequence.request_of(tenant.name, o), now_ms, emits, o)


def on_credit(tenant: Tenant, c: Credit, now_ms: int, emits: Emits) -> None:
    """Money put on the balance, or taken from it; what waited for it may go."""
    if not tenant.first_mention(f"credit {c['entry_id']}", now_ms):
        return
    tenant.credited_micros += c["amount_micros"]
    account = ledger.current(tenant.accounts, ledger.balance(0), now_ms)
    left = tenant.credited_micros - account.spent - account.held
    emits.append(Emit(topics.CREDITS, tenant.name, "Credit", {**c, "balance_micros": left, "at": now_ms}))
    release(tenant, now_ms, emits)


def on_circuit(tenant: Tenant, c: Circuit, now_ms: int) -> None:
    """A pool is not worth trying, or is again."""
    others = {pool: until for pool, until in tenant.open_circuits.items() if pool != c["pool"] and until > now_ms}
    tenant.open_circuits = others | ({c["pool"]: now_ms + CIRCUIT_LEASE_MS} if c["open"] else {})


def on_started(tenant: Tenant, s: Started, now_ms: int) -> None:
    """An attempt has begun. A stream that two attempts have begun can only be finished by the first."""
    o = tenant.open(s["request_id"])
    if o is None or o["phase"] != "running":
        return
    if o["started"] and o["started"] != s["attempt"] and o["stream"]:
        o["phase"], o["ending"] = "ending", "interrupted"
        o["due"] = now_ms + RIVAL_GRACE_MS
        tenant.agenda.remind(o["request_id"], o["due"])
    else:
        o["started"] = s["attempt"]
        o["due"] = o["deadline"]
    tenant.put_open(o)


def on_completion(tenant: Tenant, c: Completion, now_ms: int, emits: Emits) -> None:
    """The end of an attempt: the first that counts ends the request, any other is waste."""
    if c["shadow_of"]:
        on_shadow(tenant, c, now_ms, emits)
        return
    o, done = tenant.find(c["request_id"])
    if c["step"] == GUARD_STEP:
        waste(tenant, c, "guard", now_ms, emits)
        if o is not None and o["phase"] == "guarding":
            on_judgement(tenant, o, c, now_ms, emits)
        return
    if o is None:
        if done is None or done["attempt"] != c["attempt"]:
            waste(tenant, c, "unknown" if done is None else "late", now_ms, emits)
        return
    rival = o["stream"] and o["started"] and o["started"] != c["attempt"]
    if o["phase"] not in ("running", "ending") or rival:
        waste(tenant, c, "duplicate", now_ms, emits)
        return
    if c["outcome"] == "unavailable":
        if c["step"] != o["step"]:
            waste(tenant, c, "retried", now_ms, emits)
            return
        if o["phase"] == "running" and o["step"] + 1 < len(o["route"]) and not c["streamed"]:
            waste(tenant, c, "retried", now_ms, emits)
            send_on(tenant, o, now_ms, emits)
            return
    closing.complete(tenant, o, c, now_ms, emits)
    after_end(tenant, o, now_ms, emits)


def on_judgement(tenant: Tenant, o: Open, c: Completion, now_ms: int, emits: Emits) -> None:
    """The guard's word on a prompt: it goes on, or ends here. No word, or no clear one, ends it too."""
    refused = guarding.verdict(tenant, o, c, now_ms, emits)
    if refused is None:
        o["guarded"] = True
        send(tenant, o, now_ms, emits)
        return
    closing.end_with_followers(tenant, o, refused, now_ms, emits)
    after_end(tenant, o, now_ms, emits)


def on_shadow(tenant: Tenant, c: Completion, now_ms: int, emits: Emits) -> None:
    """What a shadow answered is kept for those who compare; its tokens are nobody's."""
    if tenant.first_mention(f"attempt {c['attempt']}", now_ms):
        store = tenant.policy.document.store if tenant.policy else "none"
        emits.append(emission.shadow(tenant.name, c, emission.kept(c["body"], store, closing.PERSONAL), now_ms))
        if c["input_tokens"] or c["output_tokens"]:
            emits.append(emission.waste(tenant.name, c, "shadow", now_ms))


def after_end(tenant: Tenant, o: Open, now_ms: int, emits: Emits) -> None:
    """What a request leaves behind: room for those who wait, and followers without a leader."""
    release(tenant, now_ms, emits)
    for follower in closing.orphans(tenant, o):
        promote(tenant, follower, now_ms, emits)


def on_cancellation(tenant: Tenant, c: Cancellation, now_ms: int, emits: Emits) -> None:
    """A caller left, or the batcher ends a line, which may never have been submitted."""
    o, done = tenant.find(c["request_id"])
    if done is not None:
        return
    if o is None:
        o = never_submitted(c)
        closing.close(tenant, o, ended(c["reason"], batch=bool(c["batch_id"])), now_ms, emits)
    elif o["phase"] in ("following", "deferred", "queued"):
        closing.close(tenant, o, ended(c["reason"], batch=bool(o["batch_id"])), now_ms, emits)
        release(tenant, now_ms, emits)
    elif o["phase"] in ("running", "guarding"):
        if o["followers"]:
            # The work goes on for those who follow; this caller pays for what was begun in its name.
            o["reply_to"] = []
            tenant.put_open(o)
            return
        emits.append(control(tenant.name, o["request_id"], c["reason"], now_ms))
        if o["phase"] == "guarding":
            closing.close(tenant, o, ended(c["reason"], batch=bool(o["batch_id"])), now_ms, emits)
            release(tenant, now_ms, emits)
            return
        closing.forget_leader(tenant, o)
        o["phase"], o["ending"] = "ending", c["reason"]
        o["due"] = now_ms + ENDING_GRACE_MS
        tenant.put_open(o)
        tenant.agenda.remind(o["request_id"], o["due"])


def on_due(tenant: Tenant, request_id: str, now_ms: int, emits: Emits) -> None:
    """Something was due for a request, unless it ended or moved on meanwhile."""
    o = tenant.open(request_id)
    if o is None:
        return
    if now_ms >= o["deadline"] or (o["phase"] == "ending" and now_ms >= o["due"]):
        if o["phase"] in ("running", "guarding", "ending"):
            emits.append(control(tenant.name, request_id, o["ending"] or "expired", now_ms))
        closing.close(tenant, o, ended(o["ending"] or "expired", batch=bool(o["batch_id"])), now_ms, emits)
        after_end(tenant, o, now_ms, emits)
    elif o["phase"] == "queued" and not o["behind"]:
        take_turn(tenant, request_id, now_ms, emits)
    elif o["phase"] == "guarding" and now_ms >= o["due"]:
        emits.append(control(tenant.name, request_id, "expired", now_ms))
        closing.end_with_followers(tenant, o, guarding.UNAVAILABLE, now_ms, emits)
        after_end(tenant, o, now_ms, emits)
    elif o["phase"] == "running" and not o["started"] and now_ms >= o["due"] and o["step"] + 1 < len(o["route"]):
        emits.append(given_up(tenant.name, o, o["route"][o["step"]], sent_at(tenant, o), now_ms))
        send_on(tenant, o, now_ms, emits)


def promote(tenant: Tenant, o: Open, now_ms: int, emits: Emits) -> None:
    """A follower whose leader gave no answer follows the next one, runs on its own hold, waits, or is refused."""
    known = tenant.answers.get(o["cache_key"])
    leader = closing.leader_of(tenant, known)
    if leader is not None:
        closing.follow(tenant, o, leader)
        return
    quota.unhold_cost(tenant, o)
    verdict = quota.hold(tenant, o, quota.whole(o), now_ms)
    if isinstance(verdict, Admit):
        o["phase"], o["leader"] = "running", ""
        closing.lead(tenant, o, known)
        send(tenant, o, now_ms, emits)
    elif isinstance(verdict, Wait) and quota.may_wait(o, verdict):
        defer(tenant, o, next_look(verdict, now_ms), now_ms)
    else:
        closing.close(tenant, o, quota.refusal(tenant, o, verdict, now_ms), now_ms, emits)


def waste(tenant: Tenant, c: Completion, reason: str, now_ms: int, emits: Emits) -> None:
    """Book the tokens of an attempt that nobody pays, once."""
    if (c["input_tokens"] or c["output_tokens"]) and tenant.first_mention(f"attempt {c['attempt']}", now_ms):
        emits.append(emission.waste(tenant.name, c, reason, now_ms))
