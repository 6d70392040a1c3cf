"""The controller beside an operator, beside a second controller, and without broker or registry."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from controller_world import CONFIG, World
from journal_tail import everything
from parts import Parts, await_
from processes import Process

from infra.local import topics as declared
from schemas import registry, topics
from schemas.config import ConfigDocument, decode_config, decode_policy


def live(world: World, bootstrap: str) -> tuple[ConfigDocument, dict[str, str]]:
    """The live configuration, and the version of each tenant's policy."""
    configs = everything(bootstrap, world.codec, topics.CONFIG)
    records = [r for r in everything(bootstrap, world.codec, topics.JOURNAL) if "document" in r]
    policies = [decode_policy(str(r["document"])) for r in records]
    return decode_config(str(configs[-1]["document"])), {p.tenant: p.version for p in policies}


@pytest.fixture(scope="module")
def started(parts: Parts) -> Iterator[list[Process]]:
    """Two controllers, started before there is a broker or a registry."""
    processes = [Process(parts, name, "ingest.controller") for name in ("controller", "controller-2")]
    try:
        await_(lambda: all(p.said("the schema registry does not answer yet") for p in processes), "they wait")
        parts.start("registry")
        await_(lambda: all(p.said("Kafka is away") for p in processes), "they wait for Kafka too")
        yield processes
    finally:
        statuses = [p.stop() for p in processes]
    assert statuses == [0, 0]


@pytest.fixture(scope="module")
def world(started: list[Process], parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> World:
    parts.start("kafka")
    declared.make(parts.bootstrap)
    codec = registry.connect(parts.environment("test")["MILLRACE_REGISTRY"])
    made = World(parts, parts.bootstrap, codec, tmp_path_factory.mktemp("config"))
    made.apply()
    await_(lambda: all(p.said("remembers") for p in started), "they begin when there is something to read")
    return made


def test_two_controllers_open_and_close_as_one(world: World, started: list[Process]) -> None:
    world.journal.skip()
    world.complete("first", "deepseek", "unavailable", 5)
    world.told("first", is_open=True)
    world.told("first", is_open=False)
    world.complete("first", "deepseek", "ok")
    await_(lambda: all(p.said("pool first: it answers again") for p in started), "it closes for both")


def test_a_rollback_beside_an_operator_mixes_nothing(world: World, started: list[Process], parts: Parts) -> None:
    for number in range(1_000, 1_005):
        before = world.apply()
        await_(lambda v=before.version: all(p.said(f"config {v} is live") for p in started), "they follow")  # type: ignore[misc]
        (world.folder / "all.yaml").write_text(CONFIG.replace("CONCURRENCY", str(number)))
        command = [sys.executable, "-m", "ingest.apply", str(world.folder)]
        operator = subprocess.Popen(command, env=parts.environment("apply"), stdout=subprocess.DEVNULL)
        # Some of these fall before the operator's publication, some into it, some after.
        while operator.poll() is None:
            world.complete("new", "candidate", "unavailable", 10)
        assert operator.returncode == 0
        document, _ = live(world, parts.bootstrap)
        assert document.pools["new"].concurrency == number, "the operator's change was lost"
        world.complete("new", "candidate", "unavailable", 10)
        await_(lambda: rolled_back(world, parts), "it is taken back")
        document, versions = live(world, parts.bootstrap)
        assert document.pools["new"].concurrency == number, "the operator's change was lost"
        assert versions == {"acme": document.version, "globex": document.version}, "tenants live by different policies"


def rolled_back(world: World, parts: Parts) -> bool:
    """Whether the canary of the live configuration was taken back."""
    canary = live(world, parts.bootstrap)[0].models["chat"].canary
    assert canary is not None
    return bool(canary.rolled_back)


def test_a_killed_broker_stops_nothing(world: World, started: list[Process], parts: Parts) -> None:
    before = world.apply()
    await_(lambda: all(p.said(f"config {before.version} is live") for p in started), "they follow")
    world.journal.skip()
    world.complete("new", "candidate", "unavailable", 9)
    parts.stop("kafka", kill=True)
    parts.stop("registry", kill=True)
    parts.start("kafka")
    world.complete("new", "candidate", "unavailable", 1)
    world.configuration(lambda d: d.pools == before.pools and d.models["chat"].canary.rolled_back)
    world.complete("first", "deepseek", "unavailable", 5)
    world.told("first", is_open=True)
    assert [p.popen.poll() for p in started] == [None, None]
