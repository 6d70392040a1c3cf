"""The entrance: what a new request is, before anything is sent. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
import orjson

from schemas.config import Rule
from schemas.records import Cached, Open, Request
from streams import body as bodies
from streams import closing, judging, quota, subject
from streams.affinity import prefix_of
from streams.body import BodyError
from streams.emission import Emit, audit
from streams.guard import guard_body
from streams.judging import MODERATIONS
from streams.ledger import Admit, Wait
from streams.opening import opened
from streams.policy import Policy, Target
from streams.responses import RESPONSES, chat_body
from streams.state import Tenant
from streams.verdict import Verdict, refusal
from streams.waiting import next_look

CHAT: Final = "/v1/chat/completions"
# Deferred requests a tenant may have: the batcher keeps few lines ahead, so this is reached only by other producers.
MAX_DEFERRED: Final = 20_000
MAX_DEFERRED_BYTES: Final = 64 * 1024 * 1024


class Decision(NamedTuple):
    """A request, and a verdict at once, a leader to follow, a moment to wait for, or none of them: it is admitted."""

    request: Open
    audits: list[Emit]
    verdict: Verdict | None = None
    leader: Open | None = None
    deferred_until: int | None = None
    hit: Cached | None = None


def decide(tenant: Tenant, r: Request, now_ms: int) -> Decision:
    """What becomes of a request seen for the first time. Takes its hold if it is admitted."""
    o = opened(r)
    policy = tenant.policy
    if policy is None:
        return Decision(o, [], refusal(403, "This tenant is not configured.", "unknown_tenant"))
    o["policy_version"] = policy.version
    try:
        body = bodies.parse(r["body"])
        o["user"] = subject.of_body(tenant.name, body)
        if o["endpoint"] == MODERATIONS:
            judging.check(o, body)
            return judged(tenant, o, policy, now_ms)
        if o["endpoint"] == RESPONSES:
            body = chat_body(body)
            o["endpoint"], o["body"] = CHAT, orjson.dumps(body)
        target = resolve(policy, o, body, tenant.name)
        bodies.validate(body, o["endpoint"], target.model)
    except BodyError as error:
        return Decision(
            o, [], refusal(404 if error.code == "model_not_found" else 400, str(error), error.code, error.param)
        )
    try:
        audits, blocked = moderate(policy, o, body, tenant.name, now_ms)
    except Exception:  # whatever broke, what was not checked goes no further
        return Decision(o, [], refusal(503, "The moderation of this request failed.", "moderation_unavailable"))
    if blocked is not None:
        return Decision(o, audits, blocked)
    bind(o, target, body, r["cache"], policy.judges)
    o["prefix"] = prefix_of(tenant.name, body, len(o["body"]))
    return follow_or_hold(tenant, o, audits, now_ms)


def judged(tenant: Tenant, o: Open, policy: Policy, now_ms: int) -> Decision:
    """A request for moderation: answered here, counted like any other. Nothing of its text goes anywhere."""
    o["model"] = judging.MODEL
    batch = o["lane"] == "batch"
    if batch and tenant.deferral.count:
        return defer_or_refuse(tenant, o, [], now_ms + 1)
    verdict = quota.hold(tenant, o, quota.whole(o), now_ms)
    if isinstance(verdict, Admit):
        return Decision(o, [], judging.verdict(policy, o))
    if isinstance(verdict, Wait) and quota.may_wait(o, verdict):
        return defer_or_refuse(tenant, o, [], next_look(verdict, now_ms))
    return Decision(o, [], quota.refusal(tenant, o, verdict, now_ms))


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
    o["cohort"] = target.cohort
    o["price"] = msgspec.json.encode(target.model.price).decode()
    return target


def moderate(
    policy: Policy, o: Open, body: dict[str, Any], tenant: str, now_ms: int
) -> tuple[list[Emit], Verdict | None]:
    """Apply the rules for prompts: audit rows, and a verdict if one blocks. Masked texts replace those in `body`."""
    if not policy.moderator.applies("request"):
        return [], None
    counts: dict[str, dict[str, Any]] = {}
    blocking: Rule | None = None
    masked = False

    def look(text: str, *, again: bool = False) -> str:
        """The text as it may be read; what was found is noted, but a flag not again of a text that was looked at."""
        nonlocal blocking, masked
        outcome = policy.moderator.check(text, "request")
        if not outcome.found:
            return text
        for rule, matches in outcome.found:
            if again and rule.action == "flag" and rule.id in counts:
                continue
            row = counts.setdefault(rule.id, {"rule": rule.id, "action": rule.action, "matches": 0})
            row["matches"] += matches
        blocking = blocking or outcome.blocked_by
        masked = masked or outcome.text != text
        return outcome.text

    for holder, key in bodies.readable(body):
        holder[key] = look(holder[key])
    for parts in bodies.pieces(body):
        for between in ("", " "):
            joined = between.join(part["text"] for part in parts)
            shown = look(joined, again=True)
            if shown != joined:
                # The parts a rule matched across are no longer apart.
                for part in parts:
                    part["text"] = ""
                parts[0]["text"] = shown
    hashed = policy.document.rules_hash
    audits = [audit(tenant, o["request_id"], "request", row, hashed, now_ms) for row in counts.values()]
    if blocking is not None:
        answer = orjson.dumps(guard_body(blocking.message, o["request_id"]))
        return audits, Verdict("blocked", 200, answer, error_code="content_blocked", error_message=blocking.message)
    if masked:
        o["body"] = orjson.dumps(body)
    return audits, None


def bind(o: Open, target: Target, body: dict[str, Any], cache: str, judges: str) -> None:
    """Note bounds and the identity of the answer."""
    bounds = bodies.bounds(body, target.model, target.pools)
    o["input_bound"], o["output_bound"] = bounds
    if bodies.cacheable(body, cache):
        o["cache_key"] = bodies.cache_key(body, o["endpoint"], target.name, judges)


def follow_or_hold(tenant: Tenant, o: Open, audits: list[Emit], now_ms: int) -> Decision:
    """Hit, follower, admitted, deferred or refused."""
    known = tenant.answers.get(o["cache_key"]) if o["cache_key"] else None
    if known is not None and (known["leader"] or now_ms < known["expires_at"]):
        leader = closing.leader_of(tenant, known)
        if leader is not None or not known["leader"]:
            need = quota.of_follower(o) if leader is not None else quota.of_hit(o, known)
            verdict = quota.hold(tenant, o, need, now_ms)
            if not isinstance(verdict, Admit):
                o["cache_key"] = ""
                return Decision(o, audits, quota.refusal(tenant, o, verdict, now_ms))
            if leader is not None:
                return Decision(o, audits, leader=leader)
            return Decision(
                o, audits, Verdict("completed", known["http_status"], known["body"], cache="hit"), hit=known
            )
    batch = o["lane"] == "batch"
    if batch and tenant.deferral.count:
        # Whoever comes later waits its turn, also where it would fit: it is looked at within the second.
        return defer_or_refuse(tenant, o, audits, now_ms + 1)
    verdict = quota.hold(tenant, o, quota.whole(o), now_ms)
    if isinstance(verdict, Admit):
        o["phase"] = "running"
        closing.lead(tenant, o, known)
        return Decision(o, audits)
    if isinstance(verdict, Wait) and quota.may_wait(o, verdict):
        return defer_or_refuse(tenant, o, audits, next_look(verdict, now_ms))
    return Decision(o, audits, quota.refusal(tenant, o, verdict, now_ms))


def defer_or_refuse(tenant: Tenant, o: Open, audits: list[Emit], until_ms: int) -> Decision:
    """Let a request wait, unless too many do already."""
    waiting = tenant.deferral
    if waiting.count >= MAX_DEFERRED or waiting.size + len(o["body"]) > MAX_DEFERRED_BYTES:
        full = refusal(429, "Too many requests of this tenant wait for quota already.", "deferred_full")
        return Decision(o, audits, full)
    return Decision(o, audits, deferred_until=until_ms)
