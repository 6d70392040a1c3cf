"""Models as an operator writes them: routes, splits, prices. Part of schemas/config.py."""

from __future__ import annotations

from typing import Literal

import msgspec


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Micro-units per million tokens; percentages of that for batch lines, hits and followers.

    Prompt tokens from the engine's prefix cache cost `cached_input`, reasoning tokens `reasoning`; where these are not
    given, they cost what others do.
    """

    version: str = ""
    input: int = 0
    output: int = 0
    cached_input: int | None = None
    reasoning: int | None = None
    batch_percent: int = 100
    hit_percent: int = 0
    follower_percent: int = 0


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a traffic split. `cohort` is what usage calls it; the model's name if not given."""

    model: str
    weight: int
    cohort: str = ""


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a share of a split is taken back to weight 0 by itself: too many errors, or too slow.

    Judged over the last `window_ms`, once `min_requests` attempts ended in it. 0 for `max_ms` sets no bound on time.
    `rolled_back` is written by the controller: why, and when.
    """

    model: str
    max_error_percent: int = 5
    max_ms: int = 0
    percentile: int = 95
    min_requests: int = 20
    window_ms: int = 60_000
    rolled_back: str = ""


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that gets a copy of a share of the requests; what it answers goes nowhere but to the lake."""

    model: str
    percent: int = 100


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What callers ask for: a route of pools in order, or a split over other models. Limits in tokens; 0 is none."""

    route: tuple[str, ...] = ()
    split: tuple[Share, ...] = ()
    sticky: Literal["tenant", "user", "key", "request"] = "tenant"
    canary: Canary | None = None
    shadow: Mirror | None = None
    max_input_tokens: int = 0
    max_output_tokens: int = 0
    price: Price = Price()
    embeds: bool = False
