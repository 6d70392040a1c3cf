"""OpenAI's API through the unmodified `openai` SDK: what test_1_sdk.py leaves out. test_1_node.py is its twin."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.e2e.bad_input import FILES, Bad
from tests.e2e.batches import finished, output, submit
from tests.e2e.stack import Stack

CHAT = "/v1/chat/completions"
ELSEWHERE = {
    "/v1/completions": {"model": "echo", "prompt": "said"},
    "/v1/embeddings": {"model": "wordllama-256", "input": "said"},
    "/v1/moderations": {"input": "a banned phrase"},
    "/v1/responses": {"model": "echo", "input": "said"},
}


@pytest.fixture(scope="module")
def judged(stack: Stack):
    """The batch that was made of each bad file, at its end; all at the same time."""
    client = stack.client("acme")

    def run(bad: Bad):
        file = client.files.create(file=("in.jsonl", bad.content), purpose="batch")
        asked = {"endpoint": CHAT, "completion_window": "1h"}
        return finished(client, client.batches.create(input_file_id=file.id, **asked), 120)

    with ThreadPoolExecutor(len(FILES)) as pool:
        return dict(zip(FILES, pool.map(run, FILES.values()), strict=True))


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_fails_and_names_each_line(judged, name: str):
    batch = judged[name]
    assert [(e.line, e.code) for e in batch.errors.data] == FILES[name].faults
    assert all(e.message for e in batch.errors.data) and batch.errors.object == "list"
    assert batch.status == "failed" and batch.failed_at and batch.output_file_id is batch.in_progress_at is None


def test_files_are_kept_listed_read_in_part_and_removed(stack: Stack):
    client = stack.client("twin")
    expiry = {"anchor": "created_at", "seconds": 3600}
    asked = {"purpose": "batch", "expires_after": expiry}
    made = [client.files.create(file=(f"{n}.jsonl", b"line\n" * n), **asked) for n in (1, 2, 3)]
    assert [(f.bytes, f.filename, f.expires_at - f.created_at) for f in made[1:]] == [
        (10, "2.jsonl", 3600),
        (15, "3.jsonl", 3600),
    ]
    assert client.files.retrieve(made[0].id) == made[0]
    newest = [f.id for f, _ in zip(client.files.list(limit=2), range(3), strict=False)]
    assert newest == [f.id for f in reversed(made)]
    page = client.files.list(limit=2, order="asc", after=made[0].id, purpose="batch")
    assert [f.id for f in page] == newest[1::-1] and not page.has_next_page()
    part = client.files.with_raw_response.content(made[2].id, extra_headers={"range": "bytes=-3"})
    assert (part.http_response.status_code, part.content) == (206, b"ne\n")
    assert part.headers["content-range"] == "bytes 12-14/15"
    assert part.headers["content-disposition"] == "attachment; filename*=UTF-8''3.jsonl"
    with pytest.raises(openai.APIStatusError) as beyond:
        client.files.content(made[0].id, extra_headers={"range": "bytes=5-"})
    assert beyond.value.status_code == 416 and beyond.value.response.headers["content-range"] == "bytes */5"
    assert client.files.delete(made[0].id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(made[0].id)


@pytest.mark.parametrize("endpoint", ELSEWHERE)
def test_a_batch_for_each_endpoint(stack: Stack, endpoint: str):
    client = stack.client("acme")
    line = {"custom_id": "a", "method": "POST", "url": endpoint, "body": ELSEWHERE[endpoint]}
    file = client.files.create(file=("in.jsonl", json.dumps(line).encode()), purpose="batch")
    asked = {"metadata": {"k": "v"}, "output_expires_after": {"anchor": "created_at", "seconds": 7200}}
    made = client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="7d", **asked)
    assert (made.status, made.metadata, made.expires_at - made.created_at) == ("validating", {"k": "v"}, 7 * 86_400)
    batch = finished(client, made, 60)
    assert batch.status == "completed" and batch.created_at <= batch.in_progress_at <= batch.completed_at
    (answer,) = output(client, batch)
    assert answer["id"].startswith("batch_req_") and answer["error"] is None and answer["response"]["request_id"]
    found = answer["response"]["body"]
    expected = {
        "/v1/completions": lambda: found["choices"][0]["text"] == "said",
        "/v1/embeddings": lambda: len(found["data"][0]["embedding"]) == 256,
        "/v1/moderations": lambda: found["results"][0]["flagged"] is True,
        "/v1/responses": lambda: found["output"][0]["content"][0]["text"] == "said",
    }
    assert expected[endpoint](), found
    kept = client.files.retrieve(batch.output_file_id)
    assert kept.expires_at == kept.created_at + 7200


def test_a_batch_that_expires_keeps_what_is_done(stack: Stack):
    client = stack.client("twin")
    texts = [f"short {n}" if n % 2 else "long " * 60 for n in range(40)]
    made = submit(client, texts, model="wide", window="5s")
    with pytest.raises(openai.ConflictError):
        client.files.delete(made.input_file_id)
    batch = finished(client, made, 60)
    assert batch.status == "expired" and batch.expired_at >= batch.expires_at and batch.completed_at is None
    kept, dropped = output(client, batch), output(client, batch, "error_file_id")
    assert len(kept) + len(dropped) == 40 and len(kept) == batch.request_counts.completed <= 20
    other = [x for x in dropped if x["response"] is not None or x["error"]["code"] != "batch_expired"]
    assert dropped and not other
    assert {line["custom_id"] for line in dropped} >= {f"c{n}" for n in range(0, 40, 2)}


def test_a_file_in_chunks_is_the_same_file(stack: Stack):
    client = stack.client("acme")
    content = b"".join(b"line %d of a large file\n" % n for n in range(300_000))
    named = {"filename": "large.jsonl", "bytes": len(content), "mime_type": "application/jsonl", "purpose": "batch"}
    digest = hashlib.md5(content).hexdigest()
    upload = client.uploads.upload_file_chunked(file=content, **named, part_size=6_000_000, md5=digest)
    assert upload.status == "completed" and upload.file.bytes == len(content)
    with client.files.with_streaming_response.content(upload.file.id) as answer:
        assert b"".join(answer.iter_bytes()) == content
    with pytest.raises(openai.BadRequestError) as refused:
        client.uploads.upload_file_chunked(file=content, **named, part_size=6_000_000, md5="0" * 32)
    assert refused.value.body["param"] == "md5"


def test_a_response_is_a_chat_with_one_bill(stack: Stack):
    client = stack.client("acme")
    raw = client.responses.with_raw_response.create(model="echo", input="a question asked twice", temperature=0)
    again = client.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "a question asked twice"}], temperature=0
    )
    assert raw.parse().output_text == again.parse().choices[0].message.content == "a question asked twice"
    assert [x.headers["x-millrace-cache"] for x in (raw, again)] == ["miss", "hit"]
    with client.responses.stream(model="smollm2-135m", input="What is the capital of France?", temperature=0) as stream:
        text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    assert "Paris" in text and final.output_text == text and final.usage.output_tokens > 0
    blocked = client.responses.create(model="echo", input="a banned phrase")
    assert (blocked.output_text, blocked.model) == ("Not here.", "from-security-guard")


def test_moderations_are_by_the_tenants_own_rules(stack: Stack):
    found = [stack.client(name).moderations.create(input="a banned phrase").results[0] for name in ("acme", "globex")]
    assert [result.flagged for result in found] == [True, False]
    assert not found[0].categories.violence and found[0].categories.to_dict()["rule/prompt"] is True
