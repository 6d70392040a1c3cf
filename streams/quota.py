"""What a request reserves of its tenant's limits, and what it is told where it does not fit. Pure."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from schemas.config import Price
from schemas.limits import Limit
from schemas.records import Cached, Completion, Open
from streams import ledger
from streams.ledger import PREPAID, Admit, Hold, Need, Never, Tokens, Wait
from streams.state import Tenant
from streams.verdict import Verdict, error_body


def price_of(o: Open) -> Price:
    """The price decided at admission."""
    return _price(o["price"])


@lru_cache(maxsize=1_024)
def _price(text: str) -> Price:
    return msgspec.json.decode(text, type=Price) if text else Price()


def whole(o: Open) -> Need:
    """The most that a request may spend that runs itself."""
    price = price_of(o)
    share = ledger.share_of(price, o["lane"], "miss")
    cost = ledger.cost_bound(price, o["input_bound"], o["output_bound"], share)
    return Need(1, o["input_bound"], o["output_bound"], cost, 1)


def of_follower(o: Open) -> Need:
    """The most that a follower pays: no tokens, and its part of the price of what its leader may spend."""
    price = price_of(o)
    share = ledger.share_of(price, o["lane"], "follower")
    return Need(1, cost_micros=ledger.cost_bound(price, o["input_bound"], o["output_bound"], share))


def of_hit(o: Open, known: Cached) -> Need:
    """What a hit pays: its part of the price of what the answer took."""
    return Need(1, cost_micros=cost_of(o, tokens_of(known), "hit"))


def tokens_of(record: Cached | Completion) -> Tokens:
    """An engine's counts, as a completion has them and an answer in the cache."""
    r = record
    return Tokens(r["input_tokens"], r["output_tokens"], r["cached_tokens"], r["reasoning_tokens"])


def cost_of(o: Open, tokens: Tokens, cache: str) -> int:
    """What a request pays for such counts, micro-units."""
    price = price_of(o)
    return ledger.cost_micros(price, tokens, ledger.share_of(price, o["lane"], cache))


def hold(tenant: Tenant, o: Open, need: Need, now_ms: int) -> Admit | Wait | Never:
    """Reserve `need` beyond what the request holds already; notes the holds in it."""
    limits = applying(tenant, o)
    if not limits:
        return Admit({}, ())
    has = {held["limit"] for held in o["holds"]}
    verdict = ledger.reserve(tenant.accounts, [x for x in limits if x.id not in has] if has else limits, need, now_ms)
    if isinstance(verdict, Admit):
        tenant.accounts = verdict.accounts
        o["holds"] += [{"limit": h.limit, "window": h.window, "amount": h.amount} for h in verdict.holds]
    return verdict


def unhold_cost(tenant: Tenant, o: Open) -> None:
    """Give back what a follower holds of its part of the price: it may come to need the whole."""
    cost = [h for h in o["holds"] if h["limit"].startswith("cost_micros/")]
    if cost:
        holds = [Hold(h["limit"], h["window"], h["amount"]) for h in cost]
        tenant.accounts = ledger.settle(tenant.accounts, holds, Need())
        o["holds"] = [h for h in o["holds"] if h not in cost]


def may_wait(o: Open, verdict: Admit | Wait | Never) -> bool:
    """Whether a request of the batch lane waits for quota. A line of a batch always does; what belongs to no batch has
    a caller who would rather know at once that nothing will come of it before its deadline.
    """
    if not isinstance(verdict, Wait) or o["lane"] != "batch":
        return False
    if o["batch_id"]:
        return True
    return verdict.limit.id != PREPAID and (verdict.limit.per is None or verdict.until_ms < o["deadline"])


def applying(tenant: Tenant, o: Open) -> list[Limit]:
    """The limits that count this request, the prepaid balance among them."""
    assert tenant.policy is not None, "a request is counted under a policy"
    limits = tenant.policy.applying(o["key_id"], o["model"], o["requested_model"])
    return [*limits, ledger.balance(tenant.credited_micros)] if tenant.policy.document.prepaid else limits


def refusal(tenant: Tenant, o: Open, refused: Admit | Wait | Never, now_ms: int) -> Verdict:
    """429, with the moment from which it may fit; a balance that is used up frees itself at no moment."""
    assert not isinstance(refused, Admit)
    limit = refused.limit
    headers = {"x-should-retry": "false", **ledger.headers(tenant.accounts, applying(tenant, o), now_ms)}
    if limit.id == PREPAID:
        code, message = "insufficient_quota", "The prepaid balance does not cover what this request may cost."
    else:
        code = "quota_exceeded"
        window = f" per {limit.per}" if limit.per else " at once"
        alone = " This request alone needs more than the whole limit." if isinstance(refused, Never) else ""
        message = f"Quota exceeded: at most {limit.max} {limit.on}{window}.{alone}"
        wait_ms = max(1, refused.until_ms - now_ms)
        headers |= {"retry-after": str(-(-wait_ms // 1000)), "retry-after-ms": str(wait_ms)}
    body = error_body(message, "rate_limit_error", code)
    return Verdict("refused", 429, body, error_code=code, error_message=message, headers=headers)
