"""Batch lines over quota: how they wait, and when they go. One reminder a tenant, whatever number waits. Pure."""

from __future__ import annotations

from typing import Final

from schemas.records import Open
from streams import closing, quota
from streams.agenda import moment_of
from streams.closing import Emits
from streams.deferral import slot_of
from streams.dispatch import send
from streams.ledger import Admit, Wait
from streams.state import Tenant

# Deferred requests released at one moment, and queues looked at whose head does not fit: more would hold up the
# records behind.
RELEASES_AT_ONCE: Final = 100
BLOCKED_AT_ONCE: Final = 8
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
    for _ in range(RELEASES_AT_ONCE + BLOCKED_AT_ONCE):
        slot = next((s for s in queues.turns() if s not in blocked), None) if queues.count else None
        if slot is None:
            break
        o = tenant.open(queues.head(slot))
        if o is not None and o["phase"] == "deferred":
            verdict = quota.hold(tenant, o, quota.whole(o), now_ms)
            if isinstance(verdict, Wait):
                until_ms = min(until_ms, verdict.until_ms) if blocked else verdict.until_ms
                blocked.add(slot)
                if len(blocked) < BLOCKED_AT_ONCE:
                    continue
                # The others are looked at first the next time, which is soon.
                queues.turn, until_ms = slot, now_ms + 1
                break
            if isinstance(verdict, Admit):
                queues.shrink(len(o["body"]))
                closing.lead(tenant, o, tenant.answers.get(o["cache_key"]) if o["cache_key"] else None)
                send(tenant, o, now_ms, emits)
            else:
                closing.close(tenant, o, quota.refusal(tenant, o, verdict, now_ms), now_ms, emits)
        queues.pop(slot)
        queues.turn = slot
    else:
        until_ms = now_ms + 1
    if queues.count:
        wake(tenant, until_ms, now_ms)
