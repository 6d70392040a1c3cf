"""Sending an admitted request to a pool: which step of its route, first to a guard, beside it to a shadow. Pure."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import orjson

from schemas import topics
from schemas.config import Mirror, Pool
from schemas.records import Open
from streams import affinity
from streams import body as bodies
from streams.emission import SHADOW_SUFFIX, Emit
from streams.policy import point
from streams.state import Tenant

# How long past start_by a silent pool is left before the next one is tried: clocks differ, records travel.
START_GRACE_MS: Final = 2_000
# The step of a work record that asks a guard: no step of a route.
GUARD_STEP: Final = -1
# A guard says `safe`, or `unsafe` and the categories.
GUARD_TOKENS: Final = 32


def send(tenant: Tenant, o: Open, now_ms: int, emits: list[Emit]) -> None:
    """Write what brings the request to its next place, and keep the request."""
    assert tenant.policy is not None, "a request was admitted under a policy"
    if tenant.policy.document.guard is not None and not o["guarded"]:
        judge(tenant, o, now_ms, emits)
        return
    o["phase"] = "running"
    o["step"] = best_step(tenant, o, now_ms)
    pool = tenant.policy.document.pools.get(o["route"][o["step"]])
    has_next = o["step"] + 1 < len(o["route"])
    # What is in the batch lane waits for its turn; that says nothing of the pool.
    patient = o["lane"] == "batch"
    start_by = 0 if o["batch_id"] else o["deadline"]
    o["due"] = o["deadline"]
    if has_next and pool is not None and not patient:
        start_by = min(o["deadline"], now_ms + pool.first_token_timeout_ms)
        o["due"] = min(o["deadline"], start_by + START_GRACE_MS)
        tenant.agenda.remind(o["request_id"], o["due"])
    partition = _enter(tenant, o, pool) if o["prefix"] else None
    emits.append(work(tenant, o, pool, start_by, now_ms, partition))
    if not o["admitted_at"]:
        o["admitted_at"] = now_ms
        shadow(tenant, o, now_ms, emits)
    tenant.put_open(o)


def sent_at(tenant: Tenant, o: Open) -> int:
    """When a request that is due was sent to its pool, ms UTC, if the pool's patience is still what it was."""
    assert tenant.policy is not None, "a request was sent under a policy"
    pool = tenant.policy.document.pools.get(o["route"][o["step"]])
    return o["due"] - START_GRACE_MS - (pool.first_token_timeout_ms if pool is not None else 0)


def send_on(tenant: Tenant, o: Open, now_ms: int, emits: list[Emit]) -> None:
    """Send the request to the next pool of its route."""
    leave(tenant, o)
    o["step"], o["started"] = o["step"] + 1, ""
    send(tenant, o, now_ms, emits)


def _enter(tenant: Tenant, o: Open, pool: Pool | None) -> int:
    topic = work_topic(o["route"][o["step"]], o["lane"])
    partition = tenant.loads.enter(topic, o["prefix"], pool.concurrency if pool else 1)
    o["place"] = partition + 1
    return partition


def leave(tenant: Tenant, o: Open) -> None:
    """The request waits and runs nowhere any more."""
    if o["place"]:
        tenant.loads.leave(work_topic(o["route"][o["step"]], o["lane"]), o["place"] - 1)
        o["place"] = 0


def best_step(tenant: Tenant, o: Open, now_ms: int) -> int:
    """The first pool from here on whose circuit is closed; the one at hand if all are open."""
    route, step = o["route"], o["step"]
    if not tenant.open_circuits:
        return step
    closed = (i for i in range(step, len(route)) if tenant.open_circuits.get(route[i], 0) <= now_ms)
    return next(closed, step)


def judge(tenant: Tenant, o: Open, now_ms: int, emits: list[Emit]) -> None:
    """Ask the guard's pool about the prompt. In the batch lane it may wait for that as long as for its answer."""
    assert tenant.policy is not None
    guard = tenant.policy.document.guard
    assert guard is not None, "only a policy with a guard has requests judged"
    pool = tenant.policy.document.pools.get(guard.pool)
    o["phase"] = "guarding"
    o["due"] = o["deadline"]
    if o["lane"] != "batch":
        o["due"] = min(o["deadline"], now_ms + guard.timeout_ms)
        tenant.agenda.remind(o["request_id"], o["due"])
    body = {"messages": [{"role": "user", "content": "\n".join(bodies.texts(bodies.parse(o["body"])))}]}
    record = _record(tenant, o, now_ms) | {
        "pool": guard.pool,
        "step": GUARD_STEP,
        "endpoint": "/v1/chat/completions",
        "model": pool.model if pool and pool.model else guard.pool,
        "body": orjson.dumps({**body, "max_tokens": GUARD_TOKENS, "temperature": 0}),
        "max_output_tokens": GUARD_TOKENS,
        "start_by": 0 if o["batch_id"] else o["due"],
        "deadline": o["due"],
    }
    emits.append(_emit(record, pool))
    tenant.put_open(o)


def shadow(tenant: Tenant, o: Open, now_ms: int, emits: list[Emit]) -> None:
    """Send a copy to the model that shadows this one, behind all other work. Its answer changes nothing."""
    assert tenant.policy is not None
    document = tenant.policy.document
    model = document.models.get(o["model"])
    mirror: Mirror | None = model.shadow if model else None
    target = document.models.get(mirror.model) if mirror else None
    if mirror is None or target is None or point("shadow", o["request_id"], 100) >= mirror.percent:
        return
    most = target.max_output_tokens
    record = _record(tenant, o, now_ms) | {
        "request_id": o["request_id"] + SHADOW_SUFFIX,
        "pool": target.route[0],
        "lane": "batch",
        "model": mirror.model,
        "shadow_of": o["model"],
        "max_input_tokens": target.max_input_tokens,
        "max_output_tokens": min(o["output_bound"], most) if most else o["output_bound"],
        "start_by": 0 if o["batch_id"] else o["deadline"],
    }
    emits.append(_emit(record, document.pools.get(target.route[0])))


def work(
    tenant: Tenant, o: Open, pool: Pool | None, start_by_ms: int, now_ms: int, partition: int | None = None
) -> Emit:
    """The work record for the pool at the request's step. Token limits ride along, so that a worker needs no policy."""
    assert tenant.policy is not None
    record = _record(tenant, o, now_ms) | {
        "pool": o["route"][o["step"]],
        "step": o["step"],
        "stream": o["stream"],
        "reply_to": o["reply_to"][0] if o["reply_to"] else "",
        "max_input_tokens": o["max_input_tokens"],
        "max_output_tokens": o["output_bound"],
        "start_by": start_by_ms,
        "rules": tenant.policy.answer_rules,
        "announce": o["stream"] or o["step"] + 1 < len(o["route"]),
        "batch_id": o["batch_id"],
        "line": o["line"],
    }
    return _emit(record, pool, partition)


def _record(tenant: Tenant, o: Open, now_ms: int) -> dict[str, Any]:
    """A Work record that asks nothing but an answer to the journal."""
    return {
        "tenant": tenant.name,
        "request_id": o["request_id"],
        "pool": "",
        "lane": o["lane"],
        "step": 0,
        "endpoint": o["endpoint"],
        "model": o["model"],
        "body": o["body"],
        "stream": False,
        "reply_to": "",
        "max_input_tokens": 0,
        "max_output_tokens": 0,
        "admitted_at": now_ms,
        "start_by": 0,
        "deadline": o["deadline"],
        "rules": "",
        "announce": False,
        "batch_id": "",
        "line": 0,
        "shadow_of": "",
    }


def _emit(record: dict[str, Any], pool: Pool | None, partition: int | None = None) -> Emit:
    concurrency = pool.concurrency if pool else 1
    if partition is None:
        partition = affinity.spread(record["request_id"], concurrency)
    return Emit(work_topic(record["pool"], record["lane"]), affinity.KEYS[partition], "Work", record)


@cache
def work_topic(pool: str, lane: str) -> str:
    """Name of the topic where a pool's work of a lane waits."""
    return topics.work(pool, lane).name
