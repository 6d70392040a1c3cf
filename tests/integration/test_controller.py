"""The controller as a process, on a real broker and registry: circuits and canaries of a real journal."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from journal_tail import Tail
from parts import Parts, await_
from processes import Process, apply
from samples import record

from schemas import kafka as settings
from schemas import topics
from schemas.config import ConfigDocument, decode_config, decode_policy
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

    def configuration(self, wanted: Any) -> ConfigDocument:
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


@pytest.fixture(scope="module")
def world(parts: Parts, kafka: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(parts, kafka, codec, tmp_path_factory.mktemp("config"))
    made.apply()
    return made


@pytest.fixture(scope="module")
def controller(world: World, parts: Parts) -> Iterator[Process]:
    process = Process(parts, "controller", "ingest.controller")
    world.told("first", is_open=False)  # at its start it tells everybody everything
    yield process
    assert process.stop() == 0


def report(parts: Parts) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((parts.settings.home / "run" / "controller.json").read_text())
    return found


def test_a_dead_pools_circuit_opens_and_closes_when_it_answers_again(
    world: World, controller: Process, parts: Parts
) -> None:
    world.complete("first", "deepseek", "unavailable", 5)
    world.told("first", is_open=True)
    await_(lambda: "first" in report(parts)["open"], "the report")
    world.told("first", is_open=False)  # after its pause it is tried
    world.complete("first", "deepseek", "ok")
    await_(lambda: controller.said("pool first: it answers again"), "the circuit closes")
    assert report(parts)["open"] == {}


def test_a_killed_controller_remembers_an_open_circuit_and_tells_a_new_tenant(
    world: World, controller: Process
) -> None:
    world.complete("first", "deepseek", "unavailable", 5)
    world.told("first", is_open=True)
    controller.kill()
    controller.start()
    world.told("first", is_open=True)  # said again, not forgotten
    world.told("first", is_open=False)
    world.complete("first", "deepseek", "unavailable")
    world.told("first", is_open=True)
    world.apply(CONFIG.replace("globex: {}", "globex: {}, newcomer: {}"))
    world.told("first", is_open=True, tenants=("newcomer",))


def test_a_failing_canary_is_taken_back_everywhere_within_five_seconds(
    world: World, controller: Process, parts: Parts
) -> None:
    live = world.apply()
    await_(lambda: controller.said(f"config {live.version} is live"), "the controller follows")
    world.complete("next", "deepseek", count=30)
    world.complete("new", "candidate", "unavailable", 6)
    controller.kill()
    controller.start()
    world.complete("new", "candidate", "invalid", 30)  # a caller's mistakes are nobody's fault
    world.complete("new", "candidate", "unavailable", 3)
    began = time.monotonic()
    world.complete("new", "candidate", "unavailable", 1)
    after = world.configuration(lambda d: d.models["chat"].canary.rolled_back)
    took_s = time.monotonic() - began
    assert {s.model: s.weight for s in after.models["chat"].split} == {"deepseek": 90, "candidate": 0}
    assert after.models["chat"].canary is not None
    assert after.models["chat"].canary.rolled_back.startswith("10 of 10 requests of candidate within 60 s failed")
    policies = {
        tenant: world.journal.await_("Policy", lambda r: (r["tenant"], r["version"]) == (tenant, after.version))  # noqa: B023
        for tenant in ("acme", "globex")
    }
    assert all(decode_policy(p["document"]).models == after.models for p in policies.values())
    assert took_s < 5
    await_(lambda: "chat" in report(parts)["rolled_back"], "the report")


def test_applied_again_the_canary_starts_anew(world: World, controller: Process, parts: Parts) -> None:
    live = world.apply()
    await_(lambda: controller.said(f"config {live.version} is live"), "the controller follows")
    await_(lambda: report(parts)["rolled_back"] == {}, "the report")
    # What failed under the configuration before is not counted. One tenant, so that the order is known.
    world.complete("new", "candidate", count=60, tenant="acme")
    world.complete("new", "candidate", "unavailable", 16, tenant="acme")
    after = world.configuration(lambda d: d.models["chat"].canary.rolled_back)
    assert after.models["chat"].canary is not None
    assert after.models["chat"].canary.rolled_back.startswith("16 of 76 requests of candidate within 60 s failed")
