"""Embeddings through the unmodified `openai` SDK: calls and batches, counted, moderated and shared as chats are."""

import base64
import struct

import openai
import pytest

from tests.e2e.batches import embedding_batch, finished, output
from tests.e2e.stack import Stack, eventually

MODEL = "wordllama-256"


def likeness(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_texts_that_say_the_same_are_near_and_usage_is_exact(stack: Stack):
    client = stack.client("acme")
    models = {m.id: m.model_extra["embeds"] for m in client.models.list()}
    assert models[MODEL] and not models["echo"]
    texts = [
        "A cat sleeps on the sofa.",
        "A kitten is napping on the couch.",
        "The central bank raised interest rates.",
    ]
    raw = client.embeddings.with_raw_response.create(model=MODEL, input=texts)  # the SDK asks for base64 by itself
    answer = raw.parse()
    cat, kitten, bank = (entry.embedding for entry in answer.data)
    assert len(cat) == 256 and likeness(cat, kitten) > 0.3 > 0.1 > likeness(cat, bank)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float", dimensions=64)
    assert len(plain.data[0].embedding) == 64 and abs(likeness(*[plain.data[0].embedding] * 2) - 1) < 1e-5
    query = f"SELECT * FROM usage WHERE request_id = '{raw.headers['x-request-id']}'"
    (row,) = eventually(lambda: stack.sql(query), 90, "the usage row")
    tokens = str(answer.usage.prompt_tokens)
    assert (row["status"], row["pool"], row["input_tokens"], row["output_tokens"]) == (
        "completed",
        "embed",
        tokens,
        "0",
    )
    assert row["cost_micros"] == tokens


def test_an_identical_input_is_embedded_once_where_asked_and_a_banned_one_never(stack: Stack):
    client, on = stack.client("acme"), {"x-millrace-cache": "on"}
    shared = [
        client.embeddings.with_raw_response.create(model=MODEL, input="the same text", extra_headers=on) for _ in "ab"
    ]
    assert [s.headers["x-millrace-cache"] for s in shared] == ["miss", "hit"]
    assert shared[0].parse().data[0].embedding == shared[1].parse().data[0].embedding
    blocked = client.embeddings.with_raw_response.create(model=MODEL, input=["fine", "a banned phrase"])
    assert b'"embedding"' not in blocked.content and b"Not here." in blocked.content


@pytest.mark.parametrize(
    ("call", "code", "param"),
    [
        ({"model": "echo", "input": "x"}, "model_not_supported", "model"),
        ({"model": MODEL, "input": ""}, "invalid_request", "input"),
        ({"model": MODEL, "input": [1, 2]}, "input_not_supported", "input[0]"),
        ({"model": MODEL, "input": "x", "dimensions": 100}, "invalid_request", "dimensions"),
        ({"model": MODEL, "input": "word " * 600}, "context_length_exceeded", "input"),
    ],
)
def test_bad_calls_get_errors_of_openais_shape(stack: Stack, call, code, param):
    with pytest.raises(openai.BadRequestError) as caught:
        stack.client("acme").embeddings.create(**call)
    assert (caught.value.code, caught.value.param) == (code, param)


def test_a_batch_of_embeddings(stack: Stack):
    client = stack.client("globex")
    inputs = [f"text number {i}" for i in range(200)] + [["two", "texts"], ""]
    batch = finished(client, embedding_batch(client, inputs, model=MODEL, encoding_format="base64"), 120)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 201, 1)
    lines = output(client, batch)
    assert [len(x["response"]["body"]["data"]) for x in lines] == [1] * 200 + [2]
    values = struct.unpack("<256f", base64.b64decode(lines[7]["response"]["body"]["data"][0]["embedding"]))
    assert abs(likeness(values, values) - 1) < 1e-5
    assert batch.usage.input_tokens == sum(x["response"]["body"]["usage"]["prompt_tokens"] for x in lines)
    (error,) = output(client, batch, "error_file_id")
    assert (error["custom_id"], error["response"]["body"]["error"]["param"]) == ("c201", "input")
