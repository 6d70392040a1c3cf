"""Requests that kill the worker that runs them: ended after a few deaths, set aside, and their neighbours answered."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from parts import Parts
from processes import Process
from worker_world import Desk, body, content

from schemas import topics
from schemas.wire import Codec
from workers.suspicion import DEATHS

POOLS = {name: {"engine": "echo", "concurrency": 8, "token_ms": 10} for name in ("one", "two")}
MODELS = {name: {"route": [name]} for name in POOLS}


class Supervised:
    """A worker that is started again whenever it dies, as the stack's supervisor would."""

    def __init__(self, parts: Parts) -> None:
        self.deaths = 0
        self.process = Process(parts, "worker-1", "tests.integration.deadly_worker")

    def tend(self) -> None:
        if self.process.popen.poll() is not None:
            assert self.process.popen.returncode == -signal.SIGKILL
            self.deaths += 1
            self.process.start()


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec) -> Desk:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    return held


@pytest.fixture(scope="module")
def supervised(parts: Parts, desk: Desk) -> Iterator[Supervised]:
    held = Supervised(parts)
    desk.done(desk.ask("warm up", pool="one", model="one"), timeout_s=40)
    yield held
    if held.process.popen.poll() is None:
        held.process.stop(30)


def finish(desk: Desk, supervised: Supervised, asked: list[str], timeout_s: float) -> None:
    """Read until each of these has a completion; a dead worker is started again on the way."""

    def done() -> bool:
        supervised.tend()
        return all(i in desk.completions for i in asked)

    desk.read(done, "completions of all", timeout_s)


def test_poison_is_set_aside_and_its_neighbours_are_answered(desk: Desk, supervised: Supervised) -> None:
    lanes = [("one", "batch"), ("one", "interactive"), ("two", "batch")]
    places = [lanes[n % 3] for n in range(90)]
    asked, poison = [], []
    for n, (pool, lane) in enumerate(places):
        where = {"pool": pool, "model": pool, "lane": lane}
        asked.append(desk.ask(f"neighbour {n} " + "word " * 20, **where))
        if n in (10, 41):
            poison.append(desk.ask(f"deadly {n}", **where))
    finish(desk, supervised, asked + poison, timeout_s=150)
    # The first death of all is unexplained, the next ones are theirs.
    assert 1 + DEATHS <= supervised.deaths <= 1 + DEATHS * len(poison)
    for request_id in asked:
        completion = desk.completions[request_id][0]
        assert completion["outcome"] == "ok" and content(completion).startswith("neighbour")
    for request_id in poison:
        (completion,) = desk.completions[request_id]
        assert (completion["outcome"], completion["http_status"]) == ("failed", 500)
        assert body(completion)["error"]["code"] == "poison_request" and completion["output_tokens"] == 0


def test_the_original_bytes_lie_in_dead_letters(desk: Desk, codec: Codec) -> None:
    desk.read(lambda: len(desk.dead) >= 2, "dead letters")
    assert len(desk.dead) == 2
    for letter in desk.dead:
        name, work = codec.decode(letter["value"])
        assert name == "Work" and b"deadly" in work["body"]
        assert letter["source_topic"] == topics.work(work["pool"], work["lane"]).name
        assert letter["tenant"] == "acme" and letter["reason"].startswith("poison_request")
        assert letter["key"] == work["request_id"].encode() and letter["offset"] >= 0


def test_workers_killed_from_outside_make_nobody_poison(desk: Desk, supervised: Supervised) -> None:
    asked = [desk.ask("word " * 60, pool="one", model="one", lane="batch") for _ in range(24)]
    for _ in range(DEATHS):
        before = len(desk.completions)
        desk.read(lambda before=before: len(desk.completions) > before, "a completion")
        supervised.process.kill()
        supervised.process.start()
    finish(desk, supervised, asked, timeout_s=90)
    assert all(desk.completions[i][0]["outcome"] == "ok" for i in asked) and len(desk.dead) == 2


def test_a_worker_that_leaves_in_order_leaves_no_suspicion(desk: Desk, supervised: Supervised) -> None:
    before = supervised.deaths
    asked = [desk.ask("word " * 30, pool="one", model="one", lane="batch") for _ in range(40)]
    desk.read(lambda: sum(i in desk.completions for i in asked) >= 5, "some completions")
    assert supervised.process.stop(30) == 0
    supervised.process.start()
    finish(desk, supervised, asked, timeout_s=40)
    assert all(len(desk.completions[i]) == 1 for i in asked) and supervised.deaths == before
