"""Batch work that pauses for interactive callers, on a real broker: nothing is lost, nothing is answered twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

import pytest
from parts import Parts
from processes import Process
from worker_world import Desk, content, worker

from schemas.wire import Codec

POOLS = {"slow": {"engine": "echo", "concurrency": 8, "token_ms": 10}}
MODELS = {"slow": {"route": ["slow"]}}
LINE = {"pool": "slow", "model": "slow", "lane": "batch"}
CALL = {"pool": "slow", "model": "slow", "stream": True}


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec) -> Desk:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    return held


@pytest.fixture(scope="module")
def process(parts: Parts, desk: Desk) -> Iterator[Process]:
    with worker(parts) as started:
        desk.done(desk.ask("warm up", **LINE), timeout_s=40)
        yield started


def lines(desk: Desk, count: int, words: int) -> dict[str, str]:
    """Batch lines, and what each must be answered."""
    texts = [f"line {n} " + "word " * words + "end" for n in range(count)]
    return {desk.ask(text, **LINE): text for text in texts}


def harvested(desk: Desk, asked: dict[str, str], at_least: int) -> None:
    """Wait until so many lines are done: batch has had the engine to itself, and is owed nothing."""
    desk.read(lambda: sum(i in desk.completions for i in asked) >= at_least, "some lines", 60)


def test_lines_pause_for_each_call_and_are_answered_once(desk: Desk, process: Process) -> None:
    asked = lines(desk, 48, 60)
    harvested(desk, asked, 16)
    spans = []
    for _ in range(4):
        began = time.monotonic()
        desk.done(desk.ask("word " * 30, **CALL))
        spans.append(time.monotonic() - began)
    desk.done(*asked, timeout_s=60)
    assert {i: content(desk.completions[i][0]) for i in asked} == asked
    assert Counter(len(desk.completions[i]) for i in asked) == {1: 48}
    took = [desk.completions[i][0]["finished_at"] - desk.completions[i][0]["started_at"] for i in asked]
    assert sum(ms > 900 for ms in took) >= 4 and min(took) < 900, sorted(took)  # some paused, some did not
    counts = {(desk.completions[i][0]["input_tokens"], desk.completions[i][0]["output_tokens"]) for i in asked}
    assert counts == {(63, 63)}


def test_a_paused_line_can_be_cancelled(desk: Desk, process: Process) -> None:
    asked = lines(desk, 24, 60)
    harvested(desk, asked, 8)
    call = desk.ask("word " * 150, **CALL)
    desk.read(lambda: len(desk.chunks[call]) >= 10, "the call runs, so the lines pause")
    open_ = [i for i in asked if i not in desk.completions]
    at = time.monotonic()
    for request_id in open_:
        desk.cancel(request_id)
    desk.done(*open_)
    assert time.monotonic() - at < 1 and call not in desk.completions
    ended = [desk.completions[i][0] for i in open_]
    assert {c["outcome"] for c in ended} == {"cancelled"}
    assert sum(0 < c["output_tokens"] < 63 for c in ended) >= 4 and any(not c["output_tokens"] for c in ended)
    desk.done(call)


def test_a_worker_killed_while_lines_pause_loses_none_of_them(desk: Desk, process: Process) -> None:
    asked = lines(desk, 32, 60)
    harvested(desk, asked, 8)
    call = desk.ask("word " * 150, **CALL)
    desk.read(lambda: len(desk.chunks[call]) >= 10, "the call runs, so the lines pause")
    process.kill()
    process.start()
    desk.done(*asked, call, timeout_s=60)
    assert {i: content(desk.completions[i][0]) for i in asked} == asked


def test_sigterm_gives_lines_up_at_once_and_finishes_calls(desk: Desk, process: Process) -> None:
    asked = lines(desk, 24, 400)
    call = desk.ask("word " * 100, **CALL)
    desk.read(lambda: len(desk.chunks[call]) >= 10, "the call runs")
    desk.done(call)
    time_of = time.monotonic()
    desk.read(lambda: time.monotonic() > time_of + 1, "lines run again")
    call = desk.ask("word " * 100, **CALL)
    desk.read(lambda: len(desk.chunks[call]) >= 10, "the call runs")
    at = time.monotonic()
    assert process.stop(20) == 0
    assert time.monotonic() - at < 4  # A line takes 4 s, and they have hardly begun; the call takes one.
    desk.done(call, timeout_s=1)
    assert desk.completions[call][0]["outcome"] == "ok" and not any(i in desk.completions for i in asked)
    process.start()
    desk.done(*asked, timeout_s=60)
    assert {i: content(desk.completions[i][0]) for i in asked} == asked
    assert Counter(len(desk.completions[i]) for i in asked) == {1: 24}
