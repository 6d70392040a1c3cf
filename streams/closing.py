"""The end of a request: its row, its bill, its followers, and what is remembered of it. Pure."""

from __future__ import annotations

from typing import Final

import orjson

from schemas import topics
from schemas.config import Cache, Rule
from schemas.records import Cached, Completion, Erasure, Open, Request
from streams import emission, ledger, quota, sequence
from streams.dispatch import leave
from streams.emission import Bill, Emit, audit, outcome, waste
from streams.ledger import Hold, Need, Tokens
from streams.moderation import Moderator
from streams.state import Tenant
from streams.verdict import Verdict, ended, refusal

Emits = list[Emit]

# A larger answer is not kept for others: it would be read and written whole at each hit.
MAX_CACHED_BYTES: Final = 256 * 1024
MAX_FOLLOWERS: Final = 1_000
# Outcomes whose tokens reached the caller or were spent at the caller's wish; others are nobody's to pay.
BILLED: Final = frozenset({"ok", "blocked", "cancelled", "interrupted"})
# Statuses that use up one of a limit on requests even when no token was spent.
COUNTED: Final = frozenset({"completed", "blocked", "interrupted"})
# Statuses that are as true of an identical request as of the one that ran.
SHARED: Final = frozenset({"completed", "blocked", "refused"})
NONE: Final = Tokens(0, 0)
PERSONAL: Final = Moderator(
    tuple(Rule(id=kind, detect=kind, action="mask") for kind in ("credit_card", "email", "iban"))
)


def kept_reply(v: Verdict) -> bytes:
    """A reply as it is kept for who repeats the request."""
    return orjson.dumps(
        {
            "attempt": v.attempt["attempt"] if v.attempt else "",
            "status": v.status,
            "http_status": v.http_status,
            "cache": v.cache,
            "body": v.body.decode(),
            "headers": v.headers or {},
        }
    )


# What is told to who repeats a request whose answer was erased.
ERASED: Final = kept_reply(refusal(410, "The answer to this request was erased.", "erased"))


def repeated(tenant: Tenant, r: Request, emits: Emits) -> bool:
    """Whether the request was seen before; a caller who repeats it is answered, now or with the others who wait."""
    o, done = tenant.find(r["request_id"])
    if o is not None:
        if r["reply_to"] and r["reply_to"] not in o["reply_to"]:
            o["reply_to"].append(r["reply_to"])
            tenant.put_open(o)
        return True
    if done is None:
        return False
    # A producer's topic has its answers once: there a second record with the same id is nobody who waits.
    if done["reply"] and r["reply_to"] and not r["reply_to"].startswith(topics.ANSWERS):
        reply = orjson.loads(done["reply"])
        record = {"tenant": tenant.name, "request_id": r["request_id"], **reply, "body": reply["body"].encode()}
        emits.append(Emit(r["reply_to"], r["request_id"], "Reply", record))
    return True


def close(tenant: Tenant, o: Open, v: Verdict, now_ms: int, emits: Emits, bill: Bill | None = None) -> None:
    """End a request: settle its holds, write its outcome, leave those it follows, waits for or leads."""
    bill = bill or Bill(price=quota.price_of(o))
    leave(tenant, o)
    if o["phase"] == "following":
        unfollow(tenant, o)
    elif o["phase"] == "deferred":
        tenant.deferral.shrink(len(o["body"]))
    elif o["phase"] == "queued":
        sequence.take(tenant, o)
    if v.status != "completed":
        forget_leader(tenant, o)
    if o["holds"]:
        counted = v.status in COUNTED or bool(bill.input_tokens or bill.output_tokens)
        spent = Need(int(counted), bill.input_tokens, bill.output_tokens, bill.cost_micros)
        holds = [Hold(h["limit"], h["window"], h["amount"]) for h in o["holds"]]
        tenant.accounts = ledger.settle(tenant.accounts, holds, spent)
    if bill.debt_tokens:
        tenant.debt += bill.debt_tokens
    store = tenant.policy.document.store if tenant.policy else "full"
    emits += outcome(tenant.name, o, v, bill, now_ms, emission.kept(v.body, store, PERSONAL))
    reply = kept_reply(v) if o["repeatable"] else b""
    attempt = v.attempt["attempt"] if v.attempt else ""
    tenant.close(o["request_id"], {"status": v.status, "at": now_ms, "attempt": attempt, "reply": reply})
    if o["order_key"]:
        sequence.leave(tenant, o)


def complete(tenant: Tenant, o: Open, c: Completion, now_ms: int, emits: Emits) -> None:
    """End a request by a completion; answer or keep those who follow it."""
    rules = tenant.policy.document.rules_hash if tenant.policy else ""
    for finding in c["findings"]:
        emits.append(audit(tenant.name, o["request_id"], "response", dict(finding), rules, now_ms))
    v = verdict_of(o, c)
    bill = Bill(price=quota.price_of(o))
    if c["outcome"] in BILLED:
        bill = bill_of(o, c)
    elif (c["input_tokens"] or c["output_tokens"]) and tenant.first_mention(f"attempt {c['attempt']}", now_ms):
        emits.append(waste(tenant.name, c, "failed", now_ms))
    end_with_followers(tenant, o, v, now_ms, emits, bill, quota.tokens_of(c))
    if o["cache_key"] and v.status == "completed":
        keep_answer(tenant, o, c, now_ms)


def end_with_followers(
    tenant: Tenant, o: Open, v: Verdict, now_ms: int, emits: Emits, bill: Bill | None = None, spent: Tokens = NONE
) -> None:
    """End a request, and those who follow it with the same verdict if it is one that can be shared."""
    followers = o["followers"]
    close(tenant, o, v, now_ms, emits, bill)
    if v.status not in SHARED:
        return
    o["followers"] = []
    shown = v._replace(cache="none" if v.status == "refused" else "follower", attempt=None, headers=None)
    for request_id in followers:
        f = tenant.open(request_id)
        if f is not None and f["phase"] == "following":
            f["phase"], f["leader"] = "ending", ""
            bill = shared_bill(f, spent, "follower") if v.status != "refused" else None
            close(tenant, f, shown, now_ms, emits, bill)


def keep_answer(tenant: Tenant, o: Open, c: Completion, now_ms: int) -> None:
    """Remember the answer for requests of the same identity."""
    limits = tenant.policy.document.cache if tenant.policy else Cache(ttl_s=0)
    if limits.ttl_s and len(c["body"]) <= MAX_CACHED_BYTES:
        answer: Cached = {
            "leader": "",
            "expires_at": now_ms + limits.ttl_s * 1_000,
            "http_status": c["http_status"],
            "body": c["body"],
            "input_tokens": c["input_tokens"],
            "output_tokens": c["output_tokens"],
            "cached_tokens": c["cached_tokens"],
            "reasoning_tokens": c["reasoning_tokens"],
        }
        tenant.answers.keep(o["cache_key"], answer, limits, now_ms)
    else:
        tenant.answers.drop(o["cache_key"])


def verdict_of(o: Open, c: Completion) -> Verdict:
    """The verdict that a completion means for a request."""
    kind = c["outcome"]
    if kind == "ok":
        return Verdict("completed", c["http_status"], c["body"], cache="miss", attempt=c)
    if kind == "blocked":
        return Verdict("blocked", 200, c["body"], cache="miss", attempt=c, error_code="content_blocked")
    if kind == "invalid":
        code, message = error_of(c["body"])
        return Verdict("refused", c["http_status"], c["body"], error_code=code, error_message=message, attempt=c)
    status = o["ending"] or (kind if kind in ("cancelled", "expired", "interrupted") else "failed")
    v = ended(status, batch=bool(o["batch_id"]), attempt=c)
    if status == "failed" and c["body"]:
        code, message = error_of(c["body"])
        v = v._replace(body=c["body"], http_status=c["http_status"] or 502, error_code=code, error_message=message)
    return v


def error_of(body: bytes) -> tuple[str, str]:
    """(code, message) of an error envelope; a general code where the body is something else."""
    try:
        error = orjson.loads(body)["error"]
        return str(error.get("code") or "invalid_request"), str(error.get("message") or "")
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return "invalid_request", body[:200].decode("utf-8", "replace")


def bill_of(o: Open, c: Completion) -> Bill:
    """What a completion costs its request, in the engine's own counts."""
    used_in, used_out = c["input_tokens"], c["output_tokens"]
    debt = max(0, used_in - o["input_bound"]) + max(0, used_out - o["output_bound"])
    price, tokens = quota.price_of(o), quota.tokens_of(c)
    return Bill(used_in, used_out, debt, quota.cost_of(o, tokens, "miss"), price, ledger.cost_micros(price, tokens))


def shared_bill(o: Open, tokens: Tokens, cache: str) -> Bill:
    """What a request pays that was given an answer which took `tokens`; `cache` is hit or follower."""
    price = quota.price_of(o)
    full = ledger.cost_micros(price, tokens)
    return Bill(
        cost_micros=quota.cost_of(o, tokens, cache),
        price=price,
        list_micros=full,
        shared_input_tokens=tokens.input,
        shared_output_tokens=tokens.output,
    )


def forget(tenant: Tenant, e: Erasure, now_ms: int) -> Emit:
    """Forget answers: all of the cache, and kept replies by request. Told again, it forgets what there is by then."""
    answers = tenant.answers.clear()
    replies = sum(tenant.forget_reply(request_id, ERASED) for request_id in e["request_ids"])
    told = {**e, "request_ids": [], "answers": answers, "replies": replies, "at": now_ms}
    return Emit(topics.ERASURES, tenant.name, "Erasure", told)


# leaders and followers


def leader_of(tenant: Tenant, known: Cached | None) -> Open | None:
    """The running request whose answer will be that of a cache entry, if it may take another follower."""
    o = tenant.open(known["leader"]) if known is not None and known["leader"] else None
    return (
        o if o is not None and o["phase"] in ("running", "guarding") and len(o["followers"]) < MAX_FOLLOWERS else None
    )


def lead(tenant: Tenant, o: Open, known: Cached | None) -> None:
    """From now on identical requests follow this one, unless they follow another already (`known` is their entry)."""
    if o["cache_key"] and leader_of(tenant, known) is None:
        tenant.answers.lead(o["cache_key"], o["request_id"])


def forget_leader(tenant: Tenant, o: Open) -> None:
    """Nobody shall follow this request any more."""
    if o["cache_key"]:
        known = tenant.answers.get(o["cache_key"])
        if known is not None and known["leader"] == o["request_id"]:
            tenant.answers.drop(o["cache_key"])


def follow(tenant: Tenant, o: Open, leader: Open) -> None:
    """Let a request wait for another's answer."""
    o["phase"], o["leader"] = "following", leader["request_id"]
    leader["followers"].append(o["request_id"])
    tenant.put_open(leader)
    tenant.put_open(o)


def unfollow(tenant: Tenant, o: Open) -> None:
    """Take a request out of its leader's list."""
    leader = tenant.open(o["leader"])
    if leader is not None and o["request_id"] in leader["followers"]:
        leader["followers"].remove(o["request_id"])
        tenant.put_open(leader)


def orphans(tenant: Tenant, leader: Open) -> list[Open]:
    """Requests that still follow one that has ended, oldest first."""
    found = (tenant.open(follower) for follower in leader["followers"])
    return [o for o in found if o is not None and o["phase"] == "following" and o["leader"] == leader["request_id"]]
