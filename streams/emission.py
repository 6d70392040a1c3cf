"""What a decision writes: the records of one outcome, and of one admission. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from schemas import topics
from schemas.config import Price
from schemas.records import Completion, Open
from streams.circuit import SILENT
from streams.moderation import Moderator
from streams.verdict import Verdict, error_body

# What is put behind a request's id to name its copy for a shadow model.
SHADOW_SUFFIX: Final = "~shadow"


class Emit(NamedTuple):
    """One record to be written: topic, key, name of its schema, and the record."""

    topic: str
    key: str
    schema: str
    record: Mapping[str, Any]


class Bill(NamedTuple):
    """What a request is charged."""

    input_tokens: int = 0
    output_tokens: int = 0
    debt_tokens: int = 0
    cost_micros: int = 0
    price: Price = Price()
    # What the cost would be at the full price; and the tokens of an answer that was shared, which nobody ran again.
    list_micros: int = 0
    shared_input_tokens: int = 0
    shared_output_tokens: int = 0


# What nobody waits for by the millisecond: it may be gathered into fewer and larger requests to Kafka.
_LATER: Final = f".{topics.LANES[-1]}"

EXACTLY_ONCE: Final = frozenset(
    {topics.RESPONSES, topics.USAGE, topics.AUDIT, topics.WASTE, topics.CREDITS, topics.SHADOWS}
)


def may_gather(topic: str) -> bool:
    """Whether a topic has only what batches send and get."""
    return topic == topics.BATCH_RESULTS or topic.endswith(_LATER)


def outcome(tenant: str, o: Open, v: Verdict, bill: Bill, now_ms: int, stored: str) -> list[Emit]:
    """Everything that is written when a request ends, `stored` being the body the lake may keep."""
    key = o["request_id"]
    out = [Emit(topics.USAGE, tenant, "Usage", usage(tenant, o, v, bill, now_ms))]
    out.append(Emit(topics.RESPONSES, tenant, "Response", response(tenant, o, v, now_ms, stored)))
    if o["batch_id"]:
        out.append(Emit(topics.BATCH_RESULTS, o["batch_id"], "BatchResult", batch_result(tenant, o, v, bill)))
    for topic in o["reply_to"]:
        if topic.startswith(topics.ANSWERS):
            # Its reader is the one who asked: he gets the answer itself, whatever the lake may keep of it.
            answer = response(tenant, o, v, now_ms, v.body.decode("utf-8", "replace"))
            # By its order key, so that the answers of one device stay in order.
            out.append(Emit(topic, o["order_key"] or key, "Response", answer))
        else:
            out.append(Emit(topic, key, "Reply", reply_record(tenant, key, v)))
    return out


def given_up(tenant: str, o: Open, pool: str, since_ms: int, now_ms: int) -> Emit:
    """A Completion of work that a pool was sent at `since_ms` and nobody began: for those who watch pools.

    To admission it means nothing when it comes back: the request has gone on, and no token was spent. Seen twice after
    a restore, it is the same attempt.
    """
    record: Completion = {
        "tenant": tenant,
        "request_id": o["request_id"],
        "attempt": f"{o['request_id']}.{o['step']}.silent",
        "step": o["step"],
        "pool": pool,
        "worker": "",
        "engine": "",
        "model_version": "",
        "precision": "",
        "outcome": "unavailable",
        "http_status": 503,
        "body": error_body("No worker of the pool began it in time.", "server_error", SILENT),
        "input_tokens": 0,
        "output_tokens": 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "streamed": False,
        "started_at": since_ms,
        "first_token_at": now_ms,
        "finished_at": now_ms,
        "findings": [],
        "model": o["model"],
        "shadow_of": "",
    }
    return Emit(topics.JOURNAL, tenant, "Completion", record)


def reply_record(tenant: str, request_id: str, v: Verdict) -> dict[str, Any]:
    """A Reply record."""
    return {
        "tenant": tenant,
        "request_id": request_id,
        "attempt": v.attempt["attempt"] if v.attempt else "",
        "status": v.status,
        "http_status": v.http_status,
        "cache": v.cache,
        "body": v.body,
        "headers": v.headers or {},
    }


def response(tenant: str, o: Open, v: Verdict, now_ms: int, stored: str) -> dict[str, Any]:
    """A Response record."""
    return {
        "request_id": o["request_id"],
        "tenant": tenant,
        "model": o["model"],
        "status": v.status,
        "http_status": v.http_status,
        "body": stored,
        "batch_id": o["batch_id"],
        "custom_id": o["custom_id"],
        "correlation_id": o["correlation_id"],
        "completed_at": now_ms,
    }


def usage(tenant: str, o: Open, v: Verdict, bill: Bill, now_ms: int) -> dict[str, Any]:
    """A Usage record: one per request."""
    a = v.attempt
    received = o["received_at"]
    return {
        "request_id": o["request_id"],
        "tenant": tenant,
        "key_id": o["key_id"],
        "model": o["model"],
        "requested_model": o["requested_model"],
        "pool": a["pool"] if a else "",
        "lane": o["lane"],
        "batch_id": o["batch_id"],
        "line": o["line"],
        "status": v.status,
        "error_code": v.error_code,
        "cache": v.cache,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
        "cached_tokens": a["cached_tokens"] if a else 0,
        "reasoning_tokens": a["reasoning_tokens"] if a else 0,
        "debt_tokens": bill.debt_tokens,
        "cost_micros": bill.cost_micros,
        "price_version": bill.price.version,
        "received_at": received,
        "completed_at": now_ms,
        "queue_ms": max(0, a["started_at"] - received) if a else 0,
        "first_token_ms": max(0, a["first_token_at"] - received) if a else 0,
        "total_ms": max(0, now_ms - received),
        "attempt": a["attempt"] if a else "",
        "engine": a["engine"] if a else "",
        "precision": a["precision"] if a else "",
        "worker": a["worker"] if a else "",
        "policy_version": o["policy_version"],
        "route_step": o["step"] if a else 0,
        "cohort": o["cohort"],
        "shared_input_tokens": bill.shared_input_tokens,
        "shared_output_tokens": bill.shared_output_tokens,
        "list_micros": bill.list_micros,
        "user": o["user"],
    }


def batch_result(tenant: str, o: Open, v: Verdict, bill: Bill) -> dict[str, Any]:
    """A BatchResult record. What never ran, and nobody refused, has no HTTP status."""
    a = v.attempt
    return {
        "tenant": tenant,
        "batch_id": o["batch_id"],
        "line": o["line"],
        "custom_id": o["custom_id"],
        "request_id": o["request_id"],
        "status": v.status,
        "http_status": 0 if v.status in ("expired", "cancelled") else v.http_status,
        "body": v.body,
        "error_code": v.error_code,
        "error_message": v.error_message,
        "input_tokens": bill.input_tokens,
        "output_tokens": bill.output_tokens,
        "cached_tokens": a["cached_tokens"] if a else 0,
        "reasoning_tokens": a["reasoning_tokens"] if a else 0,
        "engine_ms": max(0, a["finished_at"] - a["started_at"]) if a else -1,
    }


def waste(tenant: str, c: Completion, reason: str, now_ms: int) -> Emit:
    """A Waste record: tokens spent that nobody pays."""
    record = {
        "request_id": c["request_id"],
        "tenant": tenant,
        "attempt": c["attempt"],
        "pool": c["pool"],
        "worker": c["worker"],
        "reason": reason,
        "input_tokens": c["input_tokens"],
        "output_tokens": c["output_tokens"],
        "at": now_ms,
    }
    return Emit(topics.WASTE, tenant, "Waste", record)


def audit(tenant: str, request_id: str, stage: str, found: Mapping[str, Any], rule_set: str, now_ms: int) -> Emit:
    """An Audit record; `found` is a Finding."""
    record = {"request_id": request_id, "tenant": tenant, "stage": stage, "rule_set": rule_set, "at": now_ms, **found}
    return Emit(topics.AUDIT, tenant, "Audit", record)


def shadow(tenant: str, c: Completion, stored: str, now_ms: int) -> Emit:
    """A Shadow record: what a shadow model answered, `stored` being the body the lake may keep."""
    record = {
        "request_id": c["request_id"].removesuffix(SHADOW_SUFFIX),
        "tenant": tenant,
        "model": c["shadow_of"],
        "shadow_model": c["model"],
        "pool": c["pool"],
        "outcome": c["outcome"],
        "http_status": c["http_status"],
        "body": stored,
        "input_tokens": c["input_tokens"],
        "output_tokens": c["output_tokens"],
        "first_token_ms": max(0, c["first_token_at"] - c["started_at"]),
        "total_ms": max(0, c["finished_at"] - c["started_at"]),
        "at": now_ms,
    }
    return Emit(topics.SHADOWS, tenant, "Shadow", record)


def control(tenant: str, request_id: str, reason: str, now_ms: int) -> Emit:
    """A Control record: workers stop the request or do not start it."""
    record = {"tenant": tenant, "request_id": request_id, "reason": reason, "at": now_ms}
    return Emit(topics.CONTROL, request_id, "Control", record)


def kept(body: bytes, store: str, masker: Moderator) -> str:
    """The body as the lake keeps it: full, with personal data masked, or not at all."""
    if store == "none":
        return ""
    text = body.decode("utf-8", "replace")
    return masker.check(text, "response").text if store == "masked" else text
