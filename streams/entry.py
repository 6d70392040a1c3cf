"""The entrance: what a new request is, before anything is sent. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from schemas.config import Limit
from schemas.records import Cancellation, Open, Request
from streams import body as bodies
from streams import closing, ledger
from streams.body import BodyError
from streams.emission import Emit, Verdict, audit, error_body, price_of, refusal
from streams.guard import guard_body
from streams.ledger import Admit, Need, Never, Wait
from streams.policy import Policy, Target
from streams.state import Tenant

# Deferred requests a tenant may have: the batcher keeps few lines ahead, so this is reached only by other producers.
MAX_DEFERRED: Final = 20_000
MAX_DEFERRED_BYTES: Final = 64 * 1024 * 1024
MAX_REQUEST_ID: Final = 256


class Decision(NamedTuple):
    """A request, and a verdict at once, a leader to follow, a moment to wait for, or none of them: it is admitted."""

    request: Open
    audits: list[Emit]
    verdict: Verdict | None = None
    leader: Open | None = None
    deferred_until: int | None = None


def decide(tenant: Tenant, r: Request, now_ms: int) -> Decision:
    """What becomes of a request seen for the first time. Takes its hold if it is admitted."""
    o = opened(r)
    policy = tenant.policy
    if policy is None:
        return Decision(o, [], refusal(403, "This tenant is not configured.", "unknown_tenant"))
    o["policy_version"] = policy.version
    try:
        body = bodies.parse(r["body"])
        target = resolve(policy, o, body, tenant.name)
        bodies.validate(body, o["endpoint"], target.model)
    except BodyError as error:
        return Decision(
            o, [], refusal(404 if error.code == "model_not_found" else 400, str(error), error.code, error.param)
        )
    audits, blocked = moderate(policy, o, body, tenant.name, now_ms)
    if blocked is not None:
        return Decision(o, audits, blocked)
    bind(o, target, body, r["cache"])
    return follow_or_hold(tenant, o, audits, now_ms)


def resolve(policy: Policy, o: Open, body: dict[str, Any], tenant: str) -> Target:
    """The model, route and price of the request, noted in it. Raises BodyError if there is no such model."""
    user = body.get("user")
    side = user if isinstance(user, str) else o["key_id"]
    sides = {"tenant": tenant, "key": o["key_id"], "user": side, "request": o["request_id"]}
    target = policy.resolve(o["requested_model"], sides)
    if target is None:
        raise BodyError(f"The model `{o['requested_model']}` does not exist.", "model", "model_not_found")
    o["model"] = target.name
    o["route"] = list(target.model.route)
    o["max_input_tokens"] = target.model.max_input_tokens
    price = target.model.price
    o["price"] = orjson.dumps({"version": price.version, "input": price.input, "output": price.output}).decode()
    return target


def moderate(
    policy: Policy, o: Open, body: dict[str, Any], tenant: str, now_ms: int
) -> tuple[list[Emit], Verdict | None]:
    """Apply the rules for prompts: audit rows, and a verdict if one blocks. Masked texts replace those in `body`."""
    if not policy.moderator.applies("request"):
        return [], None
    outcomes = [(text, policy.moderator.check(text, "request")) for text in bodies.texts(body)]
    counts: dict[str, dict[str, Any]] = {}
    for _, outcome in outcomes:
        for rule, matches in outcome.found:
            row = counts.setdefault(rule.id, {"rule": rule.id, "action": rule.action, "matches": 0})
            row["matches"] += matches
    if not counts:
        return [], None
    audits = [
        audit(tenant, o["request_id"], "request", row, policy.document.rules_hash, now_ms) for row in counts.values()
    ]
    blocking = next((x.blocked_by for _, x in outcomes if x.blocked_by is not None), None)
    if blocking is not None:
        shown = orjson.dumps(guard_body(blocking.message, o["request_id"]))
        return audits, Verdict("blocked", 200, shown, error_code="content_blocked", error_message=blocking.message)
    masked = {text: outcome.text for text, outcome in outcomes}
    bodies.rewrite(body, lambda text: masked[text])
    o["body"] = orjson.dumps(body)
    return audits, None


def bind(o: Open, target: Target, body: dict[str, Any], cache: str) -> None:
    """Note bounds and the identity of the answer."""
    bounds = bodies.bounds(body, target.model, target.pools)
    o["input_bound"], o["output_bound"] = bounds
    if bodies.cacheable(body, cache):
        o["cache_key"] = bodies.cache_key(body, o["endpoint"], target.name)


def follow_or_hold(tenant: Tenant, o: Open, audits: list[Emit], now_ms: int) -> Decision:
    """Hit, follower, admitted, deferred or refused."""
    known = tenant.cached(o["cache_key"]) if o["cache_key"] else None
    if known is not None and (known["leader"] or now_ms < known["expires_at"]):
        leader = closing.leader_of(tenant, known)
        if leader is not None or not known["leader"]:
            verdict = take_hold(tenant, o, now_ms, requests_only=True)
            if not isinstance(verdict, Admit):
                o["cache_key"] = ""
                return Decision(o, audits, quota_verdict(tenant, o, verdict, now_ms))
            if leader is not None:
                return Decision(o, audits, leader=leader)
            return Decision(o, audits, Verdict("completed", known["http_status"], known["body"], cache="hit"))
    batch = o["lane"] == "batch"
    verdict = Wait(*_queue_end(now_ms)) if batch and tenant.deferred_count else take_hold(tenant, o, now_ms)
    if isinstance(verdict, Admit):
        o["phase"] = "running"
        closing.lead(tenant, o, known)
        return Decision(o, audits)
    if isinstance(verdict, Wait) and batch:
        if tenant.deferred_count >= MAX_DEFERRED or tenant.deferred_bytes + len(o["body"]) > MAX_DEFERRED_BYTES:
            full = refusal(429, "Too many requests of this tenant wait for quota already.", "deferred_full")
            return Decision(o, audits, full)
        return Decision(o, audits, deferred_until=verdict.until_ms)
    return Decision(o, audits, quota_verdict(tenant, o, verdict, now_ms))


def _queue_end(now_ms: int) -> tuple[Limit, int]:
    return Limit(on="requests", max=0), now_ms + 1


def take_hold(tenant: Tenant, o: Open, now_ms: int, *, requests_only: bool = False) -> Admit | Wait | Never:
    """Reserve what the request may spend, beyond what it holds already; notes the holds in it."""
    assert tenant.policy is not None, "a request waits under a policy"
    limits = applying(tenant, o)
    if not limits:
        return Admit(tenant.accounts, ())
    has = {hold["limit"] for hold in o["holds"]}
    if requests_only:
        need = Need(requests=1)
    else:
        price = price_of(o)
        bound = ledger.cost_micros(price, o["input_bound"], o["output_bound"]) + bool(price.input or price.output)
        need = Need(1, o["input_bound"], o["output_bound"], bound, 1)
    verdict = ledger.reserve(tenant.accounts, [x for x in limits if x.id not in has], need, now_ms)
    if isinstance(verdict, Admit):
        tenant.accounts = verdict.accounts
        o["holds"] += [{"limit": h.limit, "window": h.window, "amount": h.amount} for h in verdict.holds]
    return verdict


def applying(tenant: Tenant, o: Open) -> list[Limit]:
    """The tenant's limits that count this request."""
    assert tenant.policy is not None
    return ledger.applying(tenant.policy.limits, o["key_id"], o["model"], o["requested_model"])


def quota_verdict(tenant: Tenant, o: Open, refused: Admit | Wait | Never, now_ms: int) -> Verdict:
    """429 as the contract says."""
    assert not isinstance(refused, Admit)
    limit = refused.limit
    window = f" per {limit.per}" if limit.per else " at once"
    whole = " This request alone needs more than the whole limit." if isinstance(refused, Never) else ""
    message = f"Quota exceeded: at most {limit.max} {limit.on}{window}.{whole}"
    wait_s = max(1, -(-(refused.until_ms - now_ms) // 1000))
    headers = {
        "retry-after": str(wait_s),
        "x-should-retry": "false",
        **ledger.headers(tenant.accounts, applying(tenant, o), now_ms),
    }
    body = error_body(message, "rate_limit_error", "quota_exceeded")
    return Verdict("refused", 429, body, error_code="quota_exceeded", error_message=message, headers=headers)


def opened(r: Request) -> Open:
    """The state record of a request just read."""
    return blank(
        r["request_id"],
        endpoint=r["endpoint"],
        requested_model=r["model"],
        model=r["model"],
        key_id=r["key_id"],
        lane=r["lane"],
        body=r["body"],
        received_at=r["received_at"],
        deadline=r["deadline"],
        reply_to=[r["reply_to"]] if r["reply_to"] else [],
        stream=r["stream"],
        batch_id=r["batch_id"],
        line=r["line"],
        custom_id=r["custom_id"],
        correlation_id=r["correlation_id"],
        repeatable=r["repeatable"],
    )


def never_submitted(c: Cancellation) -> Open:
    """The state record of a line whose cancellation is its first mention."""
    return blank(
        c["request_id"],
        requested_model=c["model"],
        model=c["model"],
        key_id=c["key_id"],
        lane="batch" if c["batch_id"] else "interactive",
        received_at=c["received_at"],
        batch_id=c["batch_id"],
        line=c["line"],
        custom_id=c["custom_id"],
    )


def blank(request_id: str, **fields: Any) -> Open:
    """An Open record with nothing decided."""
    o: dict[str, Any] = {
        "request_id": request_id,
        "phase": "new",
        **dict.fromkeys(_TEXTS, ""),
        **dict.fromkeys(_NUMBERS, 0),
        "body": b"",
        "reply_to": [],
        "stream": False,
        "repeatable": False,
        "followers": [],
        "route": [],
        "holds": [],
        **fields,
    }
    return o  # type: ignore[return-value]


_TEXTS: Final = (
    "endpoint", "requested_model", "model", "key_id", "lane", "batch_id", "custom_id", "correlation_id", "cache_key",
    "leader", "started", "price", "ending", "policy_version",
)  # fmt: skip
_NUMBERS: Final = (
    "received_at", "admitted_at", "deadline", "due", "line", "step", "max_input_tokens", "input_bound", "output_bound",
)  # fmt: skip
