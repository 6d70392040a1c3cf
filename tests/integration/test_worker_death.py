"""Two workers on a real broker: kill -9, restart, SIGTERM. No piece of work may be left without a completion."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition
from parts import Parts
from processes import Process
from worker_world import Desk, worker

from schemas import kafka as settings
from schemas import topics
from schemas.wire import Codec

POOLS = {"slow": {"engine": "echo", "concurrency": 8, "token_ms": 10}}
MODELS = {"slow": {"route": ["slow"]}}
COMMON = {"pool": "slow", "model": "slow", "lane": "batch"}


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec) -> Desk:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    return held


@pytest.fixture(scope="module")
def workers(parts: Parts, desk: Desk) -> Iterator[list[Process]]:
    with worker(parts, "worker-1") as one, worker(parts, "worker-2") as two:

        def both() -> bool:
            asked = [desk.ask("hello", **COMMON) for _ in range(8)]
            desk.done(*asked, timeout_s=40)
            return len({desk.completions[i][0]["worker"] for i in asked}) == 2

        end = time.monotonic() + 40
        while not both():
            assert time.monotonic() < end, "both workers at work"
        yield [one, two]


def committed(bootstrap: str) -> int:
    """Records of work that are not committed."""
    consumer = Consumer(settings.consumer(bootstrap, "workers", "look"))
    places = [TopicPartition(topics.work("slow", "batch").name, p) for p in range(4)]
    offsets = {p.partition: p.offset for p in consumer.committed(places, timeout=10)}
    lag = sum(consumer.get_watermark_offsets(p, timeout=10)[1] - max(0, offsets[p.partition]) for p in places)
    consumer.close()
    return lag


def test_work_of_a_killed_worker_is_done_by_its_successor(desk: Desk, workers: list[Process]) -> None:
    asked = [desk.ask("word " * 20, **COMMON) for _ in range(120)]
    desk.read(lambda: sum(i in desk.completions for i in asked) >= 30, "some completions")
    workers[0].kill()
    workers[0].start()
    desk.done(*asked, timeout_s=40)
    assert all(desk.completions[i][0]["outcome"] == "ok" for i in asked)
    # What was finished within the last second before the kill may run again, and what ran; not more.
    again = sum(len(desk.completions[i]) - 1 for i in asked)
    assert again <= 40, again


def test_sigterm_leaves_no_work_behind_and_repeats_no_completion(
    desk: Desk, workers: list[Process], kafka: str
) -> None:
    asked = [desk.ask("word " * 50, **COMMON) for _ in range(40)]
    desk.read(lambda: sum(i in desk.completions for i in asked) >= 8, "some completions")
    at = time.monotonic()
    assert workers[1].stop(25) == 0
    assert time.monotonic() - at < 10
    workers[1].start()
    desk.done(*asked, timeout_s=40)
    desk.done(desk.ask("the end", **COMMON))
    assert Counter(len(desk.completions[i]) for i in asked) == {1: 40}
    end = time.monotonic() + 10
    while committed(kafka):
        assert time.monotonic() < end, "all of it committed"


def test_a_configuration_changed_while_a_worker_was_away_is_served(desk: Desk, workers: list[Process]) -> None:
    for process in workers:
        process.kill()
    desk.configure({**POOLS, "late": {"engine": "echo"}}, {**MODELS, "late": {"route": ["late"]}})
    for process in workers:
        process.start()
    asked = [desk.ask("hello", pool="late", lane="standard") for _ in range(8)]
    desk.done(*asked, timeout_s=40)


def test_a_worker_that_lost_its_session_while_it_had_stopped_reading_reads_on(
    desk: Desk, workers: list[Process]
) -> None:
    asked = [desk.ask("word " * 5, **COMMON) for _ in range(1200)]  # far more than a worker takes in advance
    desk.read(lambda: sum(i in desk.completions for i in asked) >= 50, "some completions")
    os.kill(workers[0].popen.pid, signal.SIGSTOP)
    try:
        desk.done(*asked, timeout_s=60)  # its session ends, and the other worker does all of it
    finally:
        os.kill(workers[0].popen.pid, signal.SIGCONT)

    def both() -> bool:
        later = [desk.ask("hello", **COMMON) for _ in range(8)]
        desk.done(*later, timeout_s=40)
        return len({desk.completions[i][0]["worker"] for i in later}) == 2

    end = time.monotonic() + 40
    while not both():
        assert time.monotonic() < end, "both workers at work again"
