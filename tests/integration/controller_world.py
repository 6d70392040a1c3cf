"""A journal with completions as workers write them, and what the controller says in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from journal_tail import Tail
from parts import Parts
from processes import apply
from samples import record

from schemas import kafka as settings
from schemas import topics
from schemas.config import ConfigDocument, decode_config
from schemas.wire import Codec

CONFIG = """
tenants: {acme: {}, globex: {}}
pools:
  first: {engine: openai, base_url: "http://127.0.0.1:1/v1"}
  next: {engine: echo}
  new: {engine: echo, concurrency: CONCURRENCY}
models:
  deepseek: {route: [first, next]}
  candidate: {route: [new]}
  chat:
    split: [{model: deepseek, weight: 90}, {model: candidate, weight: 10}]
    canary: {model: candidate, max_error_percent: 20, min_requests: 10, window_ms: 60000}
"""
REFUSED = b'{"error": {"message": "x", "code": "pool_unavailable"}}'


class World:
    """A producer of completions, as workers are, and readers of what the controller says."""

    def __init__(self, parts: Parts, bootstrap: str, codec: Codec, folder: Path) -> None:
        self.parts, self.codec, self.folder = parts, codec, folder
        self.producer = Producer(settings.producer(bootstrap, "worker"))
        self.journal = Tail(bootstrap, codec, topics.JOURNAL)
        self.configs = Tail(bootstrap, codec, topics.CONFIG)
        self.number, self.ticked = 8, 0.0

    def apply(self, text: str = CONFIG) -> ConfigDocument:
        """Publish a configuration that differs from every one before; it as published."""
        self.number += 1
        (self.folder / "all.yaml").write_text(text.replace("CONCURRENCY", str(self.number)))
        done = apply(self.parts, self.folder)
        assert done.returncode == 0, done.stderr
        return self.configuration(lambda d: d.version in done.stdout)

    def configuration(self, wanted: Callable[[ConfigDocument], Any]) -> ConfigDocument:
        """The first configuration from here on that is `wanted`."""
        found = self.configs.await_("Config", lambda r: wanted(decode_config(r["document"])))
        return decode_config(found["document"])

    def complete(self, pool: str, model: str, outcome: str = "ok", count: int = 1, **more: Any) -> None:
        """So many attempts ended just now, of both tenants."""
        for i in range(count):
            now = int(time.time() * 1000)
            told = {"tenant": ("acme", "globex")[i % 2], "pool": pool, "model": model, "outcome": outcome, "step": 0}
            told |= {"body": b"{}" if outcome == "ok" else REFUSED, "started_at": now - 5, "finished_at": now}
            fields = {**told, "shadow_of": "", **more}
            value = self.codec.encode("Completion", record("Completion", **fields))
            self.producer.produce(topics.JOURNAL, value, fields["tenant"])
        assert self.producer.flush(10) == 0

    def tick(self) -> None:
        """Time passes, as the relay lets it: four times a second, and no more often."""
        if time.monotonic() - self.ticked < 0.25:
            return
        self.ticked = time.monotonic()
        self.producer.produce(topics.JOURNAL, self.codec.encode("Tick", {"tenant": "", "partition": 0}), partition=0)
        assert self.producer.flush(10) == 0

    def told(self, pool: str, is_open: bool, tenants: tuple[str, ...] = ("acme", "globex")) -> None:
        """Wait until every tenant was told so."""
        left = set(tenants)
        while left:
            said = self.journal.await_(
                "Circuit",
                lambda r: r["pool"] == pool and r["open"] == is_open and r["tenant"] in left,
                between=self.tick,
            )
            left.discard(said["tenant"])


def report(parts: Parts) -> dict[str, Any]:
    """What the controller wrote for `make status`."""
    found: dict[str, Any] = json.loads((parts.settings.home / "run" / "controller.json").read_text())
    return found
