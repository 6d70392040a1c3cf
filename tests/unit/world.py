"""A small world for tests of decisions: a configuration, and builders of journal records."""

import itertools
from typing import Any

import orjson

from schemas import config, config_check
from streams.memory import MemoryEngine

T0 = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000  # a midnight, UTC
MODELS: dict[str, Any] = {
    "pools": {
        "p1": {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "concurrency": 8},
        "p2": {"engine": "openai", "base_url": "http://127.0.0.1:2/v1", "concurrency": 8},
        "echo": {"engine": "echo", "concurrency": 256},
    },
    "models": {
        "echo": {"route": ["echo"], "price": {"version": "v1", "input": 1_000_000, "output": 2_000_000}},
        "two": {"route": ["p1", "p2"], "max_output_tokens": 100},
    },
    "aliases": {"default": "echo"},
}
numbers = itertools.count()


def configuration(
    limits: list[dict[str, Any]] | None = None,
    rules: list[dict[str, Any]] | None = None,
    *,
    tenant: dict[str, Any] | None = None,
    models: dict[str, Any] | None = None,
) -> Any:
    """One tenant; `tenant` and `models` add to what it and the models are."""
    acme = {"keys": [{"name": "k", "key": "mr-k"}], "limits": limits or [], "moderation": "r" if rules else ""}
    parts = {**MODELS, "models": {**MODELS["models"], **(models or {})}}
    return config_check.parse({**parts, "tenants": {"acme": acme | (tenant or {})}, "rule_sets": {"r": rules or []}})


def adopt(e: MemoryEngine, c: Any, now_ms: int = T0) -> None:
    """Publish a configuration to a running engine."""
    document = config.encode(config.policy_of(config.document(c), "acme"))
    e.step("Policy", {"tenant": "acme", "version": config.version(c), "document": document}, now_ms)


def engine(
    limits: list[dict[str, Any]] | None = None, rules: list[dict[str, Any]] | None = None, **more: Any
) -> MemoryEngine:
    e = MemoryEngine()
    adopt(e, configuration(limits, rules, **more))
    return e


def credit(entry_id: str, amount_micros: int, kind: str = "credit") -> dict[str, Any]:
    return {
        "tenant": "acme", "entry_id": entry_id, "kind": kind, "amount_micros": amount_micros, "request_id": "",
        "reason": "", "booked_by": "test", "balance_micros": 0, "at": T0,
    }  # fmt: skip


def request(text: str = "hello world", **more: Any) -> dict[str, Any]:
    body = {"model": more.get("model", "echo"), "messages": [{"role": "user", "content": text}], **more.pop("body", {})}
    r = {
        "tenant": "acme",
        "request_id": f"r{next(numbers)}",
        "key_id": "k",
        "endpoint": "/v1/chat/completions",
        "model": "echo",
        "body": orjson.dumps(body),
        "lane": "interactive",
        "received_at": T0,
        "deadline": T0 + 600_000,
        "reply_to": "replies.gw",
        "stream": False,
        "batch_id": "",
        "line": 0,
        "custom_id": "",
        "cache": "default",
        "repeatable": False,
        "correlation_id": "",
        "source": "http",
        "order_key": "",
    }
    return r | more


def line(number: int, text: str = "hello world", **more: Any) -> dict[str, Any]:
    fields = {"lane": "batch", "batch_id": "batch_1", "line": number, "custom_id": f"c{number}", "reply_to": ""}
    return request(text, **fields, **more)


def completion(r: dict[str, Any], outcome: str = "ok", **more: Any) -> dict[str, Any]:
    c = {
        "tenant": r["tenant"],
        "request_id": r["request_id"],
        "attempt": f"a{next(numbers)}",
        "step": 0,
        "pool": "echo",
        "worker": "w1",
        "engine": "echo",
        "model_version": "",
        "precision": "",
        "outcome": outcome,
        "http_status": 200 if outcome in ("ok", "blocked") else 500,
        "body": b'{"choices":[]}' if outcome in ("ok", "blocked") else b"",
        "input_tokens": 2 if outcome == "ok" else 0,
        "output_tokens": 2 if outcome == "ok" else 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
        "streamed": False,
        "started_at": T0 + 5,
        "first_token_at": T0 + 6,
        "finished_at": T0 + 7,
        "findings": [],
        "model": "echo",
        "shadow_of": "",
    }
    return c | more


def started(r: dict[str, Any], attempt: str) -> dict[str, Any]:
    return {
        "tenant": "acme", "request_id": r["request_id"], "attempt": attempt, "pool": "echo", "worker": "w1",
        "started_at": T0,
    }  # fmt: skip


def cancellation(r: dict[str, Any], reason: str = "cancelled") -> dict[str, Any]:
    names = ("tenant", "request_id", "key_id", "model", "received_at", "batch_id", "line", "custom_id")
    return {"reason": reason, **{n: r[n] for n in names}}


def rows(e: MemoryEngine) -> dict[str, dict[str, Any]]:
    found = e.read("usage")
    assert len({u["request_id"] for u in found}) == len(found), "one usage row per request"
    return {u["request_id"]: u for u in found}


def held(e: MemoryEngine) -> int:
    return sum(a.held for a in e.tenant("acme").accounts.values())
