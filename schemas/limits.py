"""Limits of a tenant. Pure."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

Per = Literal["second", "minute", "hour", "day", "month"]
On = Literal[
    "requests", "input_tokens", "output_tokens", "total_tokens", "cost_micros", "concurrency",
    "enqueued_tokens", "open_batches",
]  # fmt: skip

# Limits that are judged when a batch is created, and by nobody else.
AT_CREATE: Final = frozenset({"enqueued_tokens", "open_batches"})
# Limits on what is there at the same time.
WITHOUT_WINDOW: Final = AT_CREATE | {"concurrency"}


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `max` of `on` per window; what is there at the same time has no window. `key` and `model` narrow it."""

    on: On
    max: int
    per: Per | None = None
    model: str = ""
    key: str = ""

    @property
    def id(self) -> str:
        """Stable across versions of a policy, so that counters survive an unrelated change."""
        return f"{self.on}/{self.per or 'now'}/{self.model}/{self.key}"
