"""A real worker tells how it stands: what nobody has read yet, what waits, what it did."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from parts import Parts, free_ports
from processes import Process
from prometheus_client.parser import text_string_to_metric_families
from worker_world import Desk

from schemas.wire import Codec
from workers import unattended

POOLS: dict[str, Any] = {
    "echo": {"engine": "echo", "concurrency": 8},
    "slow": {"engine": "echo", "concurrency": 2, "first_token_ms": 600_000, "timeout_ms": 900_000},
}
MODELS = {"echo": {"route": ["echo"]}, "slow": {"route": ["slow"]}}
LINES = 6_000


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec) -> Desk:
    made = Desk(kafka, codec)
    made.configure(POOLS, MODELS)
    return made


@pytest.fixture(scope="module")
def url(parts: Parts, desk: Desk) -> Iterator[str]:
    """Where the one worker tells its signals. It is killed at the end: its slow work would keep it for 20 s."""
    port = free_ports(1)[0]
    process = Process(parts, "worker-1", "workers.main", {"MILLRACE_SIGNALS_PORT": str(port)})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()


def ask(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def lane(url: str, pool: str, name: str) -> dict[str, Any]:
    return dict(json.loads(ask(f"{url}/signals"))["pools"][pool]["lanes"][name])


def within(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def test_what_waits_and_what_nobody_has_read_is_told(desk: Desk, url: str) -> None:
    now = int(time.time() * 1_000)
    for number in range(LINES):
        desk.ask("one two", pool="slow", model="slow", lane="batch", deadline=now + 3_600_000 + number, line=number)
    desk.done(desk.ask("hello there"))

    def settled() -> bool:
        found = lane(url, "slow", "batch")
        return bool(found["backlog"] == LINES and found["busy"] == 2)

    within(settled, "the backlog is the whole log, and both slots are busy")
    found = lane(url, "slow", "batch")
    assert found["waiting"] + found["unread"] + found["busy"] == LINES
    assert found["unread"] > 0, "the worker reads no further than its buffers and windows allow"
    assert 3_500_000 < found["slack_ms"] <= 3_600_000
    assert len(found["due"]) <= 33


def test_the_planner_asks_the_worker_and_the_log(kafka: str, url: str) -> None:
    """The command, as an operator runs it. While nothing was measured, each line wants a slot; a step doubles."""
    within(lambda: unattended.unfinished(kafka).get(("slow", "batch")) == LINES, "the log tells the same")
    address = url.removeprefix("http://")
    command = [sys.executable, "-m", "workers.plan", address, "--json", "--most", "5", "--kafka", kafka]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    slow = json.loads(done.stdout)["pools"]["slow"]
    assert (slow["running"], slow["workers"], slow["demands"][0][:2]) == (1, 2, ["batch", "unmeasured"])


def test_the_metrics_tell_what_was_done(desk: Desk, url: str) -> None:
    ids = [desk.ask("a b c", stream=True) for _ in range(20)]
    desk.done(*ids)

    def samples() -> dict[tuple[str, ...], float]:
        families = text_string_to_metric_families(ask(f"{url}/metrics").decode())
        return {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}

    within(lambda: samples()["millrace_worker_completions_total", "echo", "interactive", "ok"] == 21, "all are counted")
    found = samples()
    assert found["millrace_worker_output_tokens_total", "echo", "interactive"] == 62
    assert found["millrace_worker_time_to_first_token_seconds_count", "echo", "interactive"] == 20
    assert found["millrace_worker_queue_wait_seconds_count", "echo", "interactive"] == 21
    assert found["millrace_worker_busy_slots", "batch", "slow"] == 2
    assert found["process_cpu_seconds_total",] > 0
