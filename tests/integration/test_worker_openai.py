"""A worker against an OpenAI-compatible server that misbehaves."""

from __future__ import annotations

from collections.abc import Iterator

import orjson
import pytest
from parts import Parts
from processes import Process
from upstream import ANSWER, KEY, Upstream
from worker_world import Desk, body, content, worker

from schemas.wire import Codec

COMMON = {"pool": "r1", "model": "deepseek"}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    held = Upstream()
    yield held
    held.stop()


@pytest.fixture(scope="module")
def process(parts: Parts) -> Iterator[Process]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("R1_API_KEY", KEY)
        with worker(parts) as held:
            yield held


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec, upstream: Upstream, process: Process) -> Desk:
    held = Desk(kafka, codec)
    pool = {"engine": "openai", "base_url": upstream.url, "api_key_env": "R1_API_KEY", "model": "deepseek-r1"}
    gone = {**pool, "base_url": "http://127.0.0.1:9/v1"}
    held.configure(
        {"r1": {**pool, "first_token_timeout_ms": 500}, "gone": gone},
        {"deepseek": {"route": ["r1"]}, "lost": {"route": ["gone"]}},
    )
    held.done(held.ask("warm up", **COMMON), timeout_s=40)
    return held


def test_all_that_the_upstream_answers_passes(desk: Desk, upstream: Upstream) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}], "top_k": 3, "odd": {"x": [1]}, "max_tokens": 5}
    request_id = desk.work({"model": "deepseek", **asked}, **COMMON, max_output_tokens=5)
    completion = desk.done(request_id)
    assert upstream.requests[-1] == {**asked, "model": "deepseek-r1"}
    expected = {**ANSWER, "id": f"chatcmpl-{request_id}", "model": "deepseek"}
    assert body(completion) == expected
    counts = [completion[k] for k in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")]
    assert counts == [11, 7, 5, 3] and completion["outcome"] == "ok"


def test_streams_with_the_usage_of_the_upstream(desk: Desk) -> None:
    request_id = desk.ask("hi", stream=True, announce=True, **COMMON)
    completion = desk.done(request_id)
    assert content(completion) == desk.shown(request_id) == "one two three"
    assert body(completion)["usage"]["completion_tokens"] == completion["output_tokens"] == 3
    assert all(orjson.loads(c["data"])["model"] == "deepseek" for c in desk.chunks[request_id])
    assert len(desk.started[request_id]) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_the_key_never_leaves(desk: Desk, process: Process, stream: bool) -> None:
    request_id = desk.ask("leak", stream=stream, **COMMON)
    completion = desk.done(request_id)
    assert content(completion) == ("the key is *** ok" if stream else "the key is ***!")
    if stream:
        desk.read(lambda: desk.shown(request_id) == content(completion), "all chunks")
    assert not process.said(KEY)


@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_the_callers_fault_passes_as_it_is(desk: Desk, status: str) -> None:
    completion = desk.done(desk.ask(status, **COMMON))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", int(status))
    assert body(completion)["error"] == {"message": "no, ***", "type": "t", "param": None, "code": "c"}


@pytest.mark.parametrize("case", ["401", "402", "404", "429", "500", "503", "garbage", "truncated", "hang"])
def test_the_pools_fault_may_be_tried_elsewhere(desk: Desk, process: Process, case: str) -> None:
    completion = desk.done(desk.ask(case, announce=True, **COMMON))
    assert (completion["outcome"], completion["http_status"]) == ("unavailable", 503)
    assert KEY.encode() not in completion["body"] and not process.said(KEY)


def test_a_server_that_is_gone(desk: Desk) -> None:
    completion = desk.done(desk.ask("x", pool="gone", model="lost"))
    assert completion["outcome"] == "unavailable"


def test_a_stream_without_a_first_token_may_be_tried_elsewhere(desk: Desk) -> None:
    completion = desk.done(desk.ask("silent", stream=True, **COMMON))
    assert completion["outcome"] == "unavailable" and not completion["streamed"]


@pytest.mark.parametrize("case", ["broken", "unfinished"])
def test_a_stream_that_breaks_off_is_interrupted(desk: Desk, case: str) -> None:
    request_id = desk.ask(case, stream=True, **COMMON)
    completion = desk.done(request_id)
    assert completion["outcome"] == "interrupted" and completion["output_tokens"] == 3
    assert desk.shown(request_id) == "one two three"


def test_a_cancelled_stream_is_closed_upstream(desk: Desk, upstream: Upstream) -> None:
    upstream.dropped.clear()
    request_id = desk.ask("endless", stream=True, **COMMON)
    desk.read(lambda: len(desk.chunks[request_id]) > 5, "chunks")
    desk.cancel(request_id)
    completion = desk.done(request_id)
    assert completion["outcome"] == "cancelled" and completion["output_tokens"] >= 5
    assert upstream.dropped.wait(2)


@pytest.mark.parametrize("stream", [False, True])
def test_without_usage_the_upper_bound_is_counted(desk: Desk, process: Process, stream: bool) -> None:
    completion = desk.done(desk.ask("uncounted", stream=stream, **COMMON))
    assert completion["outcome"] == "ok" and completion["input_tokens"] == len("uncounted") + 16
    assert completion["output_tokens"] >= 11 and process.said("no usage")
    assert body(completion)["usage"]["estimated"] is True


def test_embeddings_pass(desk: Desk) -> None:
    completion = desk.done(desk.work({"input": "x", "model": "deepseek"}, endpoint="/v1/embeddings", **COMMON))
    assert completion["outcome"] == "ok" and body(completion)["data"][0]["embedding"] == [0.5, 1.0]
    assert completion["input_tokens"] == 2
