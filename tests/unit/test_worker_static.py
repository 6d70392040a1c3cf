"""The embedding engine on its real table: what is near, what is counted, what is refused."""

from __future__ import annotations

import asyncio
import base64
import math
from typing import Any

import numpy as np
import orjson
import pytest

from schemas.config import Pool
from streams import body as bodies
from streams.body import MESSAGE_OVERHEAD
from workers.engines import Final, Job
from workers.engines.static import MOST_INPUTS, Static
from workers.outcome import MAX_BODY_BYTES, Fault

ENGINE = Static(Pool(engine="static", model="wordllama-256"))
# Sentences and the one among the others that says the same.
SAME = [
    ("Where is my parcel?", "My package has not been delivered yet."),
    ("How do I reset my password?", "I forgot my login and need a new password."),
    ("The soup was cold and the waiter was rude.", "We had terrible food and bad service at the restaurant."),
    ("The central bank raised interest rates.", "Borrowing money became more expensive this month."),
    ("A cat sleeps on the sofa.", "A kitten is napping on the couch."),
    ("The team won the championship in extra time.", "Our football club took the title after overtime."),
    ("It will rain tomorrow in the mountains.", "The weather forecast says storms in the hills."),
    ("She is learning to play the violin.", "He takes piano lessons every week."),
]


def embed(given: Any, *, limit: int = 8_192, endpoint: str = "/v1/embeddings", **fields: Any) -> Final:
    async def run() -> Final:
        engine = Static(Pool(engine="static", model="wordllama-256"))
        engine._table = ENGINE._table or await ENGINE._loaded()
        job = Job("r", endpoint, "m", {"input": given, **fields}, False, limit, 0)
        parts = [part async for part in engine.generate(job)]
        assert len(parts) == 1 and isinstance(parts[0], Final)
        return parts[0]

    return asyncio.run(run())


def vectors(given: Any, **fields: Any) -> list[list[float]]:
    return [entry["embedding"] for entry in embed(given, **fields).body["data"]]


def refusal(given: Any, **fields: Any) -> tuple[int, str, str | None]:
    with pytest.raises(Fault) as caught:
        embed(given, **fields)
    error = orjson.loads(caught.value.refusal.body)["error"]
    assert caught.value.refusal.outcome == "invalid" and error["type"] == "invalid_request_error"
    assert not any(caught.value.counts)
    return caught.value.refusal.http_status, error["code"], error["param"]


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_a_sentence_is_nearest_to_the_one_that_says_the_same(dimensions: int) -> None:
    asked = np.array(vectors([a for a, _ in SAME], dimensions=dimensions))
    told = np.array(vectors([b for _, b in SAME], dimensions=dimensions))
    assert asked.shape == (len(SAME), dimensions)
    likeness = asked @ told.T
    assert (likeness.argmax(axis=1) == np.arange(len(SAME))).all()
    assert likeness.diagonal().mean() > 0.3 > 0.1 > abs(likeness[~np.eye(len(SAME), dtype=bool)].mean())


def test_every_vector_has_length_one_and_the_order_is_kept() -> None:
    texts = ["one", "two words", "three words here", "one"]
    answer = embed(texts)
    found = [entry["embedding"] for entry in answer.body["data"]]
    assert [entry["index"] for entry in answer.body["data"]] == [0, 1, 2, 3]
    assert all(math.isclose(math.hypot(*v), 1, rel_tol=1e-6) for v in found)
    assert found[0] == found[3] != found[1] and vectors("one") == [found[0]]


def test_fewer_dimensions_are_the_first_ones_at_length_one() -> None:
    whole, part = np.array(vectors("a text")[0]), np.array(vectors("a text", dimensions=64)[0])
    assert np.allclose(part, whole[:64] / np.linalg.norm(whole[:64]), atol=1e-6)


def test_base64_says_the_same() -> None:
    (coded,) = vectors("a text", encoding_format="base64")
    assert isinstance(coded, str)
    assert np.allclose(np.frombuffer(base64.b64decode(coded), "<f4"), vectors("a text")[0], atol=1e-7)


@pytest.mark.parametrize(
    "given", ["a", "\x01", " ", "日本語", "<s></s>", "héllo wörld", ["\x00", "👩‍👩‍👧", "word " * 500], "x" * 9_000]
)
def test_tokens_are_counted_exactly_and_within_the_bound_of_admission(given: Any) -> None:
    answer = embed(given)
    texts = [given] if isinstance(given, str) else given
    bound = sum(len(text.encode()) for text in bodies.texts({"input": given})) + MESSAGE_OVERHEAD
    assert len(texts) <= answer.counts.input_tokens <= bound
    assert answer.body["usage"] == {
        "prompt_tokens": answer.counts.input_tokens,
        "total_tokens": answer.counts.input_tokens,
    }
    assert answer.counts.output_tokens == 0


def test_counts_of_known_texts() -> None:
    # Pieces of Llama 2's vocabulary: ▁Where ▁is ▁my ▁par cel ?
    assert embed("Where is my parcel?").counts.input_tokens == 6
    assert embed(["hello world", "hello"]).counts.input_tokens == 3


@pytest.mark.parametrize(
    ("given", "fields", "code", "param"),
    [
        ("", {}, "invalid_request", "input"),
        ([], {}, "invalid_request", "input"),
        (None, {}, "invalid_request", "input"),
        (["a", ""], {}, "invalid_request", "input[1]"),
        (["a", None], {}, "invalid_request", "input[1]"),
        ([1, 2, 3], {}, "input_not_supported", "input[0]"),
        ([[1, 2], [3]], {}, "input_not_supported", "input[0]"),
        (["a"] * (MOST_INPUTS + 1), {}, "invalid_request", "input"),
        ("word " * 20, {"limit": 10}, "context_length_exceeded", "input"),
        ("a", {"dimensions": 100}, "invalid_request", "dimensions"),
        ("a", {"dimensions": 512}, "invalid_request", "dimensions"),
        ("a", {"dimensions": 64.0}, "invalid_request", "dimensions"),
        ("a", {"encoding_format": "hex"}, "invalid_request", "encoding_format"),
        ("a", {"endpoint": "/v1/chat/completions"}, "endpoint_not_supported", None),
    ],
)
def test_what_is_refused(given: Any, fields: dict[str, Any], code: str, param: str | None) -> None:
    assert refusal(given, **fields) == (400, code, param)


def test_the_largest_answer_fits_into_a_record() -> None:
    texts = [f"number {n} {n * 7919}" for n in range(MOST_INPUTS)]
    assert len(orjson.dumps(embed(texts).body)) < MAX_BODY_BYTES - 4_096


def test_a_table_that_is_not_there() -> None:
    with pytest.raises(Fault, match="no table"):
        Static(Pool(engine="static", model="unheard-of"))
