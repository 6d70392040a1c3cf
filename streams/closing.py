"""The end of a request: its row, its bill, its followers, and what is remembered of it. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.config import Rule
from schemas.records import Cached, Completion, Open, Request
from streams import emission, ledger
from streams.emission import Bill, Emit, Verdict, audit, ended, outcome, price_of, waste
from streams.ledger import Hold, Need
from streams.moderation import Moderator
from streams.state import Tenant

Emits = list[Emit]

ANSWER_TTL_MS: Final = 3_600_000
MAX_FOLLOWERS: Final = 1_000
# Outcomes whose tokens reached the caller or were spent at the caller's wish; others are nobody's to pay.
BILLED: Final = frozenset({"ok", "blocked", "cancelled", "interrupted"})
# Statuses that use up one of a limit on requests even when no token was spent.
COUNTED: Final = frozenset({"completed", "blocked", "interrupted"})
PERSONAL: Final = Moderator(
    tuple(Rule(id=kind, detect=kind, action="mask") for kind in ("credit_card", "email", "iban"))
)


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
    if done["reply"] and r["reply_to"]:
        reply = orjson.loads(done["reply"])
        record = {"tenant": tenant.name, "request_id": r["request_id"], **reply, "body": reply["body"].encode()}
        emits.append(Emit(r["reply_to"], r["request_id"], "Reply", record))
    return True


def close(tenant: Tenant, o: Open, v: Verdict, now_ms: int, emits: Emits, bill: Bill | None = None) -> None:
    """End a request: settle its holds, write its outcome, leave those it follows, forget it as a leader."""
    bill = bill or Bill(price=price_of(o))
    if o["phase"] == "following":
        unfollow(tenant, o)
    elif o["phase"] == "deferred":
        tenant.release_bytes(len(o["body"]))
    if v.status != "completed":
        forget_leader(tenant, o)
    if o["holds"]:
        counted = v.status in COUNTED or bool(bill.input_tokens or bill.output_tokens)
        spent = Need(int(counted), bill.input_tokens, bill.output_tokens, bill.cost_micros)
        holds = [Hold(h["limit"], h["window"], h["amount"]) for h in o["holds"]]
        tenant.accounts = ledger.settle(tenant.accounts, holds, spent)
    if bill.debt_tokens:
        tenant.owe(bill.debt_tokens)
    store = tenant.policy.document.store if tenant.policy else "full"
    emits += outcome(tenant.name, o, v, bill, now_ms, emission.kept(v.body, store, PERSONAL))
    reply = _kept_reply(v) if o["repeatable"] else b""
    attempt = v.attempt["attempt"] if v.attempt else ""
    tenant.close(o["request_id"], {"status": v.status, "at": now_ms, "attempt": attempt, "reply": reply})


def complete(tenant: Tenant, o: Open, c: Completion, now_ms: int, emits: Emits) -> None:
    """End a request by a completion; answer or keep those who follow it."""
    rules = tenant.policy.document.rules_hash if tenant.policy else ""
    for finding in c["findings"]:
        emits.append(audit(tenant.name, o["request_id"], "response", dict(finding), rules, now_ms))
    v = verdict_of(o, c)
    if c["outcome"] in BILLED:
        bill = bill_of(o, c)
    else:
        bill = Bill(price=price_of(o))
        if (c["input_tokens"] or c["output_tokens"]) and tenant.first_mention(c["attempt"], now_ms):
            emits.append(waste(tenant.name, c, "failed", now_ms))
    followers = o["followers"]
    shared = v.status in ("completed", "blocked", "refused")
    close(tenant, o, v, now_ms, emits, bill)
    if o["cache_key"] and v.status == "completed":
        entry: Any = {"leader": "", "expires_at": now_ms + ANSWER_TTL_MS, "http_status": v.http_status, "body": v.body}
        tenant.put_cached(o["cache_key"], entry)
    if shared:
        o["followers"] = []
        for follower in followers:
            f = tenant.open(follower)
            if f is not None and f["phase"] == "following":
                f["phase"], f["leader"] = "ending", ""
                cache = "none" if v.status == "refused" else "follower"
                close(tenant, f, v._replace(cache=cache, attempt=None, headers=None), now_ms, emits)


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
    price = price_of(o)
    used_in, used_out = c["input_tokens"], c["output_tokens"]
    debt = max(0, used_in - o["input_bound"]) + max(0, used_out - o["output_bound"])
    return Bill(used_in, used_out, debt, ledger.cost_micros(price, used_in, used_out), price)


# leaders and followers


def leader_of(tenant: Tenant, known: Cached | None) -> Open | None:
    """The running request whose answer will be that of a cache entry, if it may take another follower."""
    o = tenant.open(known["leader"]) if known is not None and known["leader"] else None
    return o if o is not None and o["phase"] == "running" and len(o["followers"]) < MAX_FOLLOWERS else None


def lead(tenant: Tenant, o: Open, known: Cached | None) -> None:
    """From now on identical requests follow this one, unless they follow another already (`known` is their entry)."""
    if o["cache_key"] and leader_of(tenant, known) is None:
        entry: Any = {"leader": o["request_id"], "expires_at": 0, "http_status": 0, "body": b""}
        tenant.put_cached(o["cache_key"], entry)


def forget_leader(tenant: Tenant, o: Open) -> None:
    """Nobody shall follow this request any more."""
    if o["cache_key"]:
        known = tenant.cached(o["cache_key"])
        if known is not None and known["leader"] == o["request_id"]:
            tenant.drop_cached(o["cache_key"])


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


def _kept_reply(v: Verdict) -> bytes:
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
