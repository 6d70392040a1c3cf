"""A worker that embeds, with the real table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from parts import Parts
from worker_world import Desk, body, worker

from schemas.wire import Codec

POOLS = {"embed": {"engine": "static", "model": "wordllama-256", "concurrency": 4}}
MODELS = {"wordllama-256": {"route": ["embed"], "max_input_tokens": 8192, "embeds": True}}
COMMON: dict[str, Any] = {"pool": "embed", "model": "wordllama-256", "max_input_tokens": 8192}


@pytest.fixture(scope="module")
def desk(parts: Parts, kafka: str, codec: Codec) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    with worker(parts):
        held.done(held.work({"input": "Hi"}, endpoint="/v1/embeddings", **COMMON), timeout_s=60)
        yield held


def test_texts_become_vectors(desk: Desk) -> None:
    texts = ["Where is my parcel?", "My package has not been delivered yet.", "The central bank raised interest rates."]
    completion = desk.done(desk.work({"input": texts, "model": "x"}, endpoint="/v1/embeddings", **COMMON))
    answer = body(completion)
    assert (completion["outcome"], completion["engine"], completion["precision"]) == ("ok", "static", "f16")
    assert (answer["object"], answer["model"]) == ("list", "wordllama-256") and "choices" not in answer
    a, b, c = (entry["embedding"] for entry in answer["data"])
    assert likeness(a, b) > 0.2 > 0.1 > likeness(a, c)
    assert completion["input_tokens"] == answer["usage"]["prompt_tokens"] > 20 and completion["output_tokens"] == 0


def likeness(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_many_at_once_on_every_lane(desk: Desk) -> None:
    lanes = ("interactive", "standard", "batch")
    asked = [
        desk.work({"input": f"text {n}"}, endpoint="/v1/embeddings", lane=lanes[n % 3], **COMMON) for n in range(60)
    ]
    desk.done(*asked)
    assert {desk.completions[i][0]["outcome"] for i in asked} == {"ok"}


def test_refusals_have_a_code_and_cost_nothing(desk: Desk) -> None:
    completion = desk.done(desk.work({"input": [[1, 2]]}, endpoint="/v1/embeddings", **COMMON))
    assert (completion["outcome"], completion["http_status"], completion["input_tokens"]) == ("invalid", 400, 0)
    assert body(completion)["error"]["code"] == "input_not_supported"
    completion = desk.done(desk.ask("hello", **COMMON))
    assert body(completion)["error"]["code"] == "endpoint_not_supported"
