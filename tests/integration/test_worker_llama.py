"""A worker with the real language model in its process."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from parts import Parts
from worker_world import Desk, body, content, worker

from schemas.wire import Codec

POOLS = {"local": {"engine": "llama", "model": "smollm2-135m", "concurrency": 4}}
MODELS = {"smollm2-135m": {"route": ["local"], "max_input_tokens": 256, "max_output_tokens": 128}}
COMMON = {"pool": "local", "model": "smollm2-135m", "max_input_tokens": 256, "max_output_tokens": 128}


@pytest.fixture(scope="module")
def desk(parts: Parts, kafka: str, codec: Codec) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    with worker(parts):
        held.done(held.ask("Hi", body={"max_tokens": 1}, **COMMON), timeout_s=60)
        yield held


def test_answers_greedily_the_same_twice(desk: Desk) -> None:
    asked = {"max_tokens": 12, "temperature": 0}
    first = desk.done(desk.ask("What is the capital of France?", body=asked, **COMMON))
    second = desk.done(desk.ask("What is the capital of France?", body=asked, **COMMON))
    assert first["outcome"] == "ok" and "Paris" in content(first) and content(first) == content(second)
    assert (first["engine"], first["precision"]) == ("llama", "q4_1")
    usage = body(first)["usage"]
    assert (
        usage["prompt_tokens"] == first["input_tokens"] and usage["completion_tokens"] == first["output_tokens"] <= 12
    )


def test_streams_what_the_body_says(desk: Desk) -> None:
    request_id = desk.ask("Count to ten.", body={"max_tokens": 20, "temperature": 0}, stream=True, **COMMON)
    completion = desk.done(request_id)
    desk.read(lambda: desk.shown(request_id) == content(completion), "all chunks")
    assert len(desk.chunks[request_id]) > 5 and completion["first_token_at"] < completion["finished_at"]


@pytest.mark.parametrize("text", ["a", "", "日本語", "hello there"])
def test_a_prompt_stays_within_the_bound_of_admission(desk: Desk, text: str) -> None:
    completion = desk.done(desk.ask(text, body={"max_tokens": 2}, **COMMON))
    assert completion["outcome"] == "ok"
    assert 0 < completion["input_tokens"] <= len(text.encode()) + 16 and completion["output_tokens"] <= 2


def test_cancels_a_running_generation(desk: Desk) -> None:
    request_id = desk.ask("Tell me a long story.", body={"max_tokens": 128}, stream=True, **COMMON)
    desk.read(lambda: len(desk.chunks[request_id]) >= 3, "chunks")
    at = time.monotonic()
    desk.cancel(request_id)
    completion = desk.done(request_id)
    assert completion["outcome"] == "cancelled" and time.monotonic() - at < 1
    assert completion["input_tokens"] > 0 and 3 <= completion["output_tokens"] < 128


@pytest.mark.parametrize("words", [280, 2000])
def test_refuses_a_prompt_beyond_the_window(desk: Desk, words: int) -> None:
    completion = desk.done(desk.ask("word " * words, body={"max_tokens": 2}, **COMMON))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", 400)
    assert body(completion)["error"]["code"] == "context_length_exceeded"


def test_refuses_a_field_that_the_engine_refuses(desk: Desk) -> None:
    completion = desk.done(desk.ask("x", body={"response_format": {"type": "nonsense"}}, **COMMON))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", 400)


def test_runs_several_at_once(desk: Desk) -> None:
    asked = [desk.ask(f"Tell me about {n}.", body={"max_tokens": 16}, lane="batch", **COMMON) for n in range(8)]
    desk.done(*asked, timeout_s=30)
    spans = [(desk.completions[i][0]["started_at"], desk.completions[i][0]["finished_at"]) for i in asked]
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) >= 3


PROMPTS = ("Tell me about the sea.", "List ten colors.", "Who was Napoleon?", "Describe a small village in winter.")


def test_lines_that_pause_are_answered_token_for_token_as_if_they_had_not(desk: Desk) -> None:
    asked = {"max_tokens": 96, "temperature": 0}
    alone = [desk.done(desk.ask(p, body=asked, lane="standard", **COMMON), timeout_s=30) for p in PROMPTS]
    harvest = [desk.ask(f"Say {n}.", body={"max_tokens": 32}, lane="batch", **COMMON) for n in range(12)]
    lines = [desk.ask(p, body=asked, lane="batch", **COMMON) for p in PROMPTS]
    desk.done(*harvest, timeout_s=60)
    while not all(i in desk.completions for i in lines):
        desk.done(desk.ask("Hello!", body={"max_tokens": 4}, stream=True, **COMMON))
        desk.read(lambda at=time.monotonic(): time.monotonic() > at + 0.4, "a pause between calls")
    for once, line in zip(alone, (desk.completions[i] for i in lines), strict=True):
        assert len(line) == 1 and content(line[0]) == content(once)
        assert (line[0]["input_tokens"], line[0]["output_tokens"]) == (once["input_tokens"], once["output_tokens"])
