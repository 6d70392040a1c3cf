"""Submitting batches through the SDK."""

import json
from collections.abc import Sequence
from typing import Any

import openai

from tests.e2e.stack import eventually

EMBEDDINGS = "/v1/embeddings"
ENDED = ("completed", "failed", "expired", "cancelled")


def submit(
    client: openai.OpenAI,
    texts: list[str],
    *,
    model: str = "echo",
    window: str = "24h",
    each: Sequence[dict[str, Any]] = (),
    **body: Any,
) -> Any:
    """A batch of one chat line per text, custom ids c0, c1, ...; `each` adds to the body of each line."""
    lines = (
        {
            "custom_id": f"c{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": text}], **body, **more},
        }
        for i, (text, more) in enumerate(zip(texts, each or [{}] * len(texts), strict=True))
    )
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window=window)


def finished(client: openai.OpenAI, batch: Any, timeout_s: float) -> Any:
    """The batch in its last status."""
    return eventually(
        lambda: (b := client.batches.retrieve(batch.id)).status in ENDED and b, timeout_s, f"the end of {batch.id}"
    )


def output(client: openai.OpenAI, batch: Any, which: str = "output_file_id") -> list[dict[str, Any]]:
    """Lines of its output or error file; none if there is no such file."""
    file_id = getattr(batch, which)
    return [json.loads(x) for x in client.files.content(file_id).text.splitlines()] if file_id else []


def embedding_batch(client: openai.OpenAI, inputs: list[Any], **body: Any) -> Any:
    """A batch of one embedding line per input."""
    lines = (
        {"custom_id": f"c{i}", "method": "POST", "url": EMBEDDINGS, "body": {**body, "input": given}}
        for i, given in enumerate(inputs)
    )
    content = "".join(json.dumps(line) + "\n" for line in lines).encode()
    file = client.files.create(file=("input.jsonl", content), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=EMBEDDINGS, completion_window="24h")
