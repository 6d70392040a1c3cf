"""What a request asks for, read by the oracle itself: identity, bounds in tokens, and the terms of a policy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson

Record = Mapping[str, Any]

WINDOW_MS = {"second": 1_000, "minute": 60_000, "hour": 3_600_000, "day": 86_400_000}
# Fields that leave the answer as it is.
NEUTRAL = {"stream", "stream_options", "user", "metadata", "store", "service_tier", "model"}
MILLION = 1_000_000


def identity(record: Record) -> tuple[str, str]:
    """(tenant, request id)."""
    return record["tenant"], record["request_id"]


def window_of(per: str | None, at_ms: int) -> int:
    """Start of the window, ms; 0 where there is none."""
    if per is None:
        return 0
    if per == "month":
        day = datetime.fromtimestamp(at_ms / 1000, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000
    return at_ms - at_ms % WINDOW_MS[per]


class Span(NamedTuple):
    """A number of which only bounds are known from outside."""

    low: int
    high: int

    def __add__(self, other: Span) -> Span:  # type: ignore[override]
        return Span(self.low + other.low, self.high + other.high)


ONE = Span(1, 1)


class Limit(NamedTuple):
    """A limit of a policy."""

    id: str
    on: str
    per: str | None
    max: int
    model: str
    key: str


class Terms:
    """A policy, as far as the oracle needs it."""

    def __init__(self, document: str) -> None:
        d = json.loads(document)
        self.models: dict[str, Any] = d["models"]
        self.pools: dict[str, Any] = d["pools"]
        self.aliases: dict[str, str] = d["aliases"]
        self.prepaid: bool = d["prepaid"]
        self.guarded: bool = d["guard"] is not None
        self.limits = [
            Limit(f"{x['on']}/{x['per'] or 'now'}/{x['model']}/{x['key']}", x["on"], x["per"], x["max"], x["model"],
                  x["key"])
            for x in d["limits"]
        ]  # fmt: skip
        self.phrases = [
            x["match"].encode()
            for x in d["rules"]
            if x["match"] and x["match"].isascii() and x["action"] in ("block", "mask") and "request" in x["stages"]
        ]
        self._applying: dict[tuple[str, str, str], list[tuple[Limit, bool]]] = {}

    def applying(self, key: str, requested: str, model: str) -> list[tuple[Limit, bool]]:
        """Limits that count a request, each with whether that is sure: a split leaves `model` open until it ran."""
        known = self._applying.get((key, requested, model))
        if known is None:
            name, sides = self.resolve(requested)
            names = {"", requested, model} if model else {"", requested, name}
            known = [
                (x, x.model in names)
                for x in self.limits
                if x.key in ("", key) and (x.model in names or (not model and x.model in sides))
            ]
            self._applying[key, requested, model] = known
        return known

    def resolve(self, requested: str) -> tuple[str, list[str]]:
        """The model's name behind aliases, and those its traffic is split over."""
        name = self.aliases.get(requested or "default", requested or "default")
        return name, [share["model"] for share in self.models.get(name, {}).get("split", ())]


class Question:
    """A Request as the oracle reads it under the terms of its arrival."""

    def __init__(self, r: Record, terms: Terms | None) -> None:
        self.key: str = r["key_id"]
        self.requested: str = r["model"]
        self.model = ""
        self.batch: str = r["batch_id"]
        self.queues = r["lane"] == "batch"
        self.input = self.output = self.cost = Span(0, 1 << 60)
        self.shared_cost = self.cost
        self.prices: dict[str, dict[str, Any]] = {}
        try:
            body = orjson.loads(r["body"])
        except orjson.JSONDecodeError:
            body = None
        self.shareable = True
        self.alike = 0
        if isinstance(body, dict):
            self.alike = alike(r["endpoint"], body)
            temperature = body.get("temperature")
            zero = isinstance(temperature, int | float) and temperature == 0
            self.shareable = r["cache"] == "on" or (r["cache"] == "default" and zero)
            self.phrases(r, terms)
            if terms is not None:
                self.measure(body, r["body"], terms)

    def phrases(self, r: Record, terms: Terms | None) -> None:
        """Note what may not be in the text once it is admitted."""
        self.banned = [p for p in terms.phrases if p in r["body"]] if terms is not None else []

    def measure(self, body: dict[str, Any], raw: bytes, terms: Terms) -> None:
        """Bounds of what it may spend: the exact ones for plain chats, wide ones for all else."""
        name, sides = terms.resolve(self.requested)
        if name in terms.models and not sides:
            self.model = name
        model = terms.models.get(name, {})
        self.prices = {n: terms.models.get(n, {}).get("price", {}) for n in (sides or [name])}
        asked = body.get("max_completion_tokens", body.get("max_tokens"))
        messages = body.get("messages")
        plain = isinstance(messages, list) and all(isinstance(m, dict) and isinstance(m.get("content"), str)
                                                   and set(m) == {"role", "content"} for m in messages)  # fmt: skip
        plain = plain and not {"n", "tools", "prompt", "input", "suffix", "instructions"} & set(body)
        texts = [m["content"] for m in messages] if plain else []
        words = bool(model.get("route")) and all(terms.pools[p]["engine"] == "echo" for p in model["route"])
        if plain and not sides and isinstance(asked, int):
            size = sum(len(t.split()) if words else len(t.encode()) for t in texts) + (0 if words else 16 * len(texts))
            self.input, self.output = Span(size, size), Span(asked, asked)
        else:
            high = len(raw) * 2 + 4096 * raw.count(b"image_url") + 64
            most = asked if isinstance(asked, int) else max(4096, model.get("max_output_tokens") or 0, len(raw))
            choices = body.get("n") if isinstance(body.get("n"), int) else 1
            self.input, self.output = Span(0, high), Span(0, most * (choices or 1))
        self.cost, self.shared_cost = self._cost("miss"), self._cost("follower")

    def _cost(self, cache: str) -> Span:
        costs = [
            Span(most_cost(price, self.input.low, self.output.low, self.queues, cache),
                 most_cost(price, self.input.high, self.output.high, self.queues, cache))
            for price in self.prices.values()
        ]  # fmt: skip
        return Span(min(c.low for c in costs), max(c.high for c in costs)) if costs else Span(0, 0)

    def masked(self) -> None:
        """Its text was changed before it was measured, and may now be like another's."""
        self.alike = 0
        self.input = Span(0, self.input.high * 4 + 64)
        self.cost, self.shared_cost = Span(0, self.cost.high * 8 + 64), Span(0, self.shared_cost.high * 8 + 64)

    def need(self, on: str) -> Span:
        """What a limit on `on` has to hold for it."""
        if on == "total_tokens":
            return self.input + self.output
        return {"input_tokens": self.input, "output_tokens": self.output, "cost_micros": self.cost}.get(on, ONE)


def fingerprint(r: Record) -> int:
    """Equal for requests that may share an answer, given the same tenant and model."""
    try:
        body = orjson.loads(r["body"])
    except orjson.JSONDecodeError:
        return hash(r["body"])
    return alike(r["endpoint"], body) if isinstance(body, dict) else hash(r["body"])


def alike(endpoint: str, body: dict[str, Any]) -> int:
    """The fingerprint of a body at an endpoint."""
    if endpoint == "/v1/responses":
        endpoint, body = "/v1/chat/completions", as_chat(body)
    same = {k: v for k, v in body.items() if k not in NEUTRAL}
    return hash((endpoint, orjson.dumps(same, option=orjson.OPT_SORT_KEYS)))


def as_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A response of plain texts as the chat that means the same; any other one is only like itself."""
    given, instructions = body.get("input"), body.get("instructions")
    said = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not isinstance(said, list) or not all(isinstance(m, dict) and set(m) <= {"role", "content"} for m in said):
        return body
    system = [{"role": "system", "content": instructions}] if instructions else []
    names = {"max_output_tokens": "max_tokens"}
    chat = {names.get(k, k): v for k, v in body.items() if k not in ("input", "instructions")}
    return {**chat, "messages": [*system, *said]}


def most_cost(price: dict[str, Any], used_in: int, used_out: int, batch: bool, cache: str) -> int:
    """The most that so many tokens can cost by the price list, in micro-units, rounded up."""
    whole = used_in * max(price.get("input", 0), price.get("cached_input") or 0)
    whole += used_out * max(price.get("output", 0), price.get("reasoning") or 0)
    share = (price.get("batch_percent", 100) if batch else 100) * (
        price.get("follower_percent", 0) if cache == "follower" else 100
    )
    return -(-whole * share // (10_000 * MILLION))


def _or(value: int | None, other: int) -> int:
    return other if value is None else value


def cost_of(price: dict[str, Any], row: Record) -> int:
    """What a row of tokens costs by the price list, in micro-units, rounded half up once."""
    cached, reasoning = row["cached_tokens"], row["reasoning_tokens"]
    total = (row["input_tokens"] - cached) * price.get("input", 0)
    total += cached * _or(price.get("cached_input"), price.get("input", 0))
    total += (row["output_tokens"] - reasoning) * price.get("output", 0)
    total += reasoning * _or(price.get("reasoning"), price.get("output", 0))
    percent = price.get("batch_percent", 100) if row["lane"] == "batch" else 100
    return int(total * percent + 50 * MILLION) // (100 * MILLION)
