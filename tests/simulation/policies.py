"""Configurations of the simulated world: tenants with every kind of limit, and changes of all that may change."""

from __future__ import annotations

import random
from typing import Any

from schemas import config, config_check

T0 = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000 + 86_000_000  # shortly before a midnight, UTC
PHRASES = ("a banned phrase", "another forbidden one")
CARD = "4111 1111 1111 1111"
POOLS: dict[str, Any] = {
    "p1": {"engine": "openai", "base_url": "http://127.0.0.1:1/v1", "concurrency": 8, "first_token_timeout_ms": 5_000},
    "p2": {"engine": "openai", "base_url": "http://127.0.0.1:2/v1", "concurrency": 8},
    "echo": {"engine": "echo", "concurrency": 256},
    "judge": {"engine": "openai", "base_url": "http://127.0.0.1:3/v1", "concurrency": 8, "model": "guard"},
}
GUARD = {"pool": "judge", "timeout_ms": 4_000}
LIMITS: dict[str, list[dict[str, Any]]] = {
    "acme": [
        {"on": "requests", "per": "minute", "max": 20},
        {"on": "total_tokens", "per": "hour", "max": 6_000},
        {"on": "concurrency", "max": 6},
        {"on": "requests", "per": "second", "max": 9},
    ],
    "globex": [
        {"on": "input_tokens", "per": "minute", "max": 260},
        {"on": "output_tokens", "per": "minute", "max": 300, "model": "two"},
        {"on": "cost_micros", "per": "hour", "max": 3_000},
        {"on": "requests", "per": "minute", "max": 12, "key": "k2"},
    ],
    "initech": [
        {"on": "cost_micros", "per": "month", "max": 60_000},
        {"on": "total_tokens", "per": "day", "max": 30_000},
        {"on": "concurrency", "max": 2, "model": "echo"},
        {"on": "requests", "per": "hour", "max": 150},
    ],
    "umbra": [{"on": "requests", "per": "minute", "max": 30}],
}
TENANTS = tuple(LIMITS)
KEYS = ("k1", "k2")
MODELS = ("echo", "echo", "two", "split", "")


def _rules(n: int) -> list[dict[str, Any]]:
    return [{"id": "p", "match": PHRASES[n % 2]}, {"id": "card", "detect": "credit_card", "action": "mask"}]


class Operator:
    """Writes configurations: the first, then changed ones. `gone` are tenants that were removed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._limits = {tenant: list(limits) for tenant, limits in LIMITS.items()}
        self._price: dict[str, Any] = {"version": "v0", "input": 1_000_000, "output": 2_000_000}
        self._guarded = self._mirrored = True
        self._cache: dict[str, Any] = {}
        self._rules = 0
        self._weight = 90
        self._changes = 0
        self.gone: set[str] = set()

    def change(self) -> None:
        """Something about the configuration changes."""
        self._changes += 1
        self._chance.choice(
            (self._scale, self._drop, self._restore, self._reprice, self._reword, self._switch, self._remove)
        )()

    def _scale(self) -> None:
        tenant = self._chance.choice(TENANTS)
        factor = self._chance.choice((0.5, 0.8, 1.2, 2))
        self._limits[tenant] = [{**x, "max": max(1, int(x["max"] * factor))} for x in self._limits[tenant]]

    def _drop(self) -> None:
        limits = self._limits[self._chance.choice(TENANTS)]
        if limits:
            limits.pop(self._chance.randrange(len(limits)))

    def _restore(self) -> None:
        tenant = self._chance.choice(TENANTS)
        self._limits[tenant] = list(LIMITS[tenant])

    def _reprice(self) -> None:
        names = ("input", "output", *self._chance.choice(((), ("cached_input", "reasoning"))))
        price: dict[str, Any] = {name: self._chance.randrange(3_000_000) for name in names}
        for name in ("batch_percent", "hit_percent", "follower_percent"):
            price[name] = self._chance.choice((0, 10, 50, 100))
        self._price = {"version": f"v{self._changes}", **price}

    def _switch(self) -> None:
        self._guarded, self._mirrored = self._chance.random() < 0.7, self._chance.random() < 0.7
        self._cache = self._chance.choice(({}, {"ttl_s": 60}, {"max_answers": 20}, {"ttl_s": 0}))

    def _reword(self) -> None:
        self._rules += 1
        self._weight = self._chance.choice((0, 10, 50, 100))

    def _remove(self) -> None:
        if self.gone:
            self.gone.clear()
        else:
            self.gone.add(self._chance.choice(TENANTS))

    def policies(self) -> list[dict[str, Any]]:
        """One Policy record per tenant, as `make apply` writes them."""
        document = config.document(config_check.parse(self._data()))
        policies = [config.closed(document, t) if t in self.gone else config.policy_of(document, t) for t in TENANTS]
        return [{"tenant": p.tenant, "version": p.version, "document": config.encode(p)} for p in policies]

    def _data(self) -> dict[str, Any]:
        models = {
            "echo": {"route": ["echo"], "price": self._price},
            "two": {
                "route": ["p1", "p2"],
                "max_output_tokens": 100,
                "price": {**self._price, "output": 500_000},
                **({"shadow": {"model": "echo", "percent": 50}} if self._mirrored else {}),
            },
            "split": {
                "split": [{"model": "echo", "weight": self._weight}, {"model": "two", "weight": 101 - self._weight}],
                "sticky": "request",
            },
        }
        tenants = {
            name: {
                "keys": [{"name": key, "key": f"mr-{name}-{key}"} for key in KEYS],
                "limits": self._limits[name],
                "moderation": "" if name == "initech" else "r",
                "cache": self._cache,
                "prepaid": name == "umbra",
                **({"guard": GUARD} if name == "globex" and self._guarded else {}),
            }
            for name in TENANTS
            if name not in self.gone
        }
        sets = {"r": _rules(self._rules)}
        return {"pools": POOLS, "models": models, "aliases": {"default": "echo"}, "tenants": tenants, "rule_sets": sets}
