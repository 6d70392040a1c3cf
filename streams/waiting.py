"""Batch lines over quota: how they wait, and when they go. One reminder a tenant, whatever number waits. Pure."""

from __future__ import annotations

from typing import Final

from schemas.records import Open
from streams import closing, judging, quota
from streams.agenda import moment_of
from streams.closing import Emits
from streams.deferral import slot_of
from streams.dispatch import send
from streams.judging import MODERATIONS
from streams.ledger import Admit, Wait
from streams.state import Tenant

# Deferred requests released at one moment, and queues looked at whose head does not fit: more would hold up the
# records behind.
RELEASES_AT_ONCE: Final = 100
BLOCKED_AT_ONCE: Final = 8
# Heads of queues looked at, those that ended while they waited among them, which cost little.
LOOKS_AT_ONCE: Final = 1_000
# Concurrency and balances free themselves at no known time; this is only a second look.
UNTIMED_LOOK_MS: Final = 60_000
WINDOW_WAKE: Final = "*window"


def defer(tenant: Tenant, o: Open, until_ms: int, now_ms: int) -> None:
    """Put a request of the batch lane at the end of its batch's queue."""
    o["phase"], o["leader"] = "deferred", ""
    tenant.put_open(o)
    tenant.deferral.add(slot_of(o["batch_id"]), o["request_id"], len(o["body"]))
    wake(tenant, until_ms, now_ms)


def wake(tenant: Tenant, at_ms: int, now_ms: int) -> None:
    """Look at the queues again at `at_ms`, unless that is to happen earlier anyway. One reminder stands at a time."""
    moment = moment_of(at_ms)
    if tenant.wake <= now_ms or moment < tenant.wake:
        tenant.wake = moment
        tenant.agenda.remind(WINDOW_WAKE, moment)


def release(tenant: Tenant, now_ms: int, emits: Emits) -> None:
    """Admit deferred requests while they fit, one of each queue in turn; look again when the next window opens."""
    queues = tenant.deferral
    blocked: set[int] = set()
    until_ms = now_ms + 1
    left = RELEASES_AT_ONCE
    for _ in range(LOOKS_AT_ONCE):
        slot = next((s for s in queues.turns() if s not in blocked), None) if queues.count and left else None
        if slot is None:
            break
        o = tenant.open(queues.head(slot))
        if o is None or o["phase"] != "deferred":
            queues.pop(slot)  # it ended while it waited
            continue
        verdict = quota.hold(tenant, o, quota.whole(o), now_ms)
        if isinstance(verdict, Wait):
            until_ms = min(until_ms, next_look(verdict, now_ms)) if blocked else next_look(verdict, now_ms)
            blocked.add(slot)
            if len(blocked) < BLOCKED_AT_ONCE:
                continue
            # The others are looked at first the next time, which is soon.
            queues.turn, until_ms = slot, now_ms + 1
            break
        if isinstance(verdict, Admit) and o["endpoint"] == MODERATIONS:
            assert tenant.policy is not None, "a request waits under a policy"
            closing.close(tenant, o, judging.verdict(tenant.policy, o), now_ms, emits)
        elif isinstance(verdict, Admit):
            queues.shrink(len(o["body"]))
            closing.lead(tenant, o, tenant.answers.get(o["cache_key"]) if o["cache_key"] else None)
            send(tenant, o, now_ms, emits)
        else:
            closing.close(tenant, o, quota.refusal(tenant, o, verdict, now_ms), now_ms, emits)
        queues.pop(slot)
        queues.turn = slot
        left -= 1
    else:
        until_ms = now_ms + 1
    if queues.count:
        wake(tenant, until_ms if left else now_ms + 1, now_ms)


def next_look(verdict: Wait, now_ms: int) -> int:
    """When what waits may fit. What has no window is freed by an end or a credit, each of which releases at once."""
    return verdict.until_ms if verdict.limit.per else now_ms + UNTIMED_LOOK_MS
