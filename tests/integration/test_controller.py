"""The controller as a process, on a real broker and registry: circuits and canaries of a real journal."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from controller_world import CONFIG, World, report
from parts import Parts, await_
from processes import Process

from schemas.config import decode_policy
from schemas.wire import Codec


@pytest.fixture(scope="module")
def world(parts: Parts, kafka: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> World:
    made = World(parts, kafka, codec, tmp_path_factory.mktemp("config"))
    made.apply()
    return made


@pytest.fixture(scope="module")
def controller(world: World, parts: Parts) -> Iterator[Process]:
    process = Process(parts, "controller", "ingest.controller")
    try:
        world.told("first", is_open=False)  # at its start it tells everybody everything
        yield process
    finally:
        status = process.stop()
    assert status == 0


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
