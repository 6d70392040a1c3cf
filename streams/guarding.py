"""What a guard model's word means for a prompt. Pure.

The format is that of the guard models in use (Llama Guard and its kin): `safe`, or `unsafe` and, on the next line, the
categories, separated by commas.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.config import DEFAULT_MESSAGE
from schemas.records import Completion, Open
from streams.emission import Emit, audit
from streams.guard import guard_body
from streams.state import Tenant
from streams.verdict import Verdict, refusal

UNAVAILABLE: Final = refusal(503, "This request was not judged in time, so it was not run.", "moderation_unavailable")
# Categories that get a row of their own; a model that names more says nothing more.
MAX_CATEGORIES: Final = 8


def verdict(tenant: Tenant, o: Open, c: Completion, now_ms: int, emits: list[Emit]) -> Verdict | None:
    """None if the prompt may pass; else how the request ends. What was found is audited."""
    said = answer_of(c["body"]) if c["outcome"] == "ok" else ""
    word, _, rest = said.strip().partition("\n")
    if word.strip().lower() == "safe":
        return None
    if word.strip().lower() != "unsafe":
        return UNAVAILABLE
    guard = tenant.policy.document.guard if tenant.policy else None
    name = f"guard/{guard.pool if guard else c['pool']}"
    categories = [x.strip() for x in rest.split(",") if x.strip()][:MAX_CATEGORIES]
    rules = tenant.policy.document.rules_hash if tenant.policy else ""
    for rule in [f"{name}/{x[:32]}" for x in categories] or [name]:
        found = {"rule": rule, "action": "block", "matches": 1}
        emits.append(audit(tenant.name, o["request_id"], "request", found, rules, now_ms))
    message = guard.message if guard else DEFAULT_MESSAGE
    body = orjson.dumps(guard_body(message, o["request_id"]))
    return Verdict("blocked", 200, body, error_code="content_blocked", error_message=message)


def answer_of(body: bytes) -> str:
    """The text of a chat completion; empty for anything else."""
    try:
        content: Any = orjson.loads(body)["choices"][0]["message"]["content"]
    except (orjson.JSONDecodeError, KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""
