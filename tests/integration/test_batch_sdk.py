"""Files and batches through the `openai` SDK, unmodified. Admission is a double, everything else is real."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import orjson
import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from parts import await_

from ingest import places, sweeper

pytest_plugins = ("batch_world",)


@pytest.fixture(scope="module")
def url(world: World) -> str:
    world.batcher()
    return world.gateway()


@pytest.fixture
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(api_key="key-acme", base_url=url, max_retries=0)


def create(client: openai.OpenAI, content: bytes, window: str = "24h") -> openai.types.Batch:
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    return client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/chat/completions",
        completion_window=window,  # type: ignore[arg-type]
        metadata={"k": "v"},
    )


def ended(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    final = ("completed", "failed", "expired", "cancelled")
    await_(lambda: client.batches.retrieve(batch_id).status in final, "end of the batch", 60)
    return client.batches.retrieve(batch_id)


def test_a_thousand_lines(client: openai.OpenAI, admission: BatchAdmission) -> None:
    made = create(client, jsonl([line(n) for n in range(1, 1001)]))
    assert made.status == "validating" and made.metadata == {"k": "v"}
    batch = ended(client, made.id)
    assert batch.status == "completed" and batch.request_counts is not None and batch.usage is not None
    assert (batch.request_counts.completed, batch.usage.total_tokens) == (1000, 4000)
    assert batch.output_file_id is not None and batch.error_file_id is None
    lines = [orjson.loads(text) for text in client.files.content(batch.output_file_id).iter_lines()]
    assert [value["custom_id"] for value in lines] == [f"c{n}" for n in range(1, 1001)]
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert client.batches.list(limit=1).data[0].id == batch.id
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)
    other = openai.OpenAI(api_key="key-globex", base_url=client.base_url, max_retries=0)
    with pytest.raises(openai.NotFoundError):
        other.batches.retrieve(batch.id)
    with pytest.raises(openai.NotFoundError):
        other.files.content(batch.output_file_id)


def test_a_file_with_faults(client: openai.OpenAI, admission: BatchAdmission) -> None:
    batch = ended(client, create(client, b"\xef\xbb\xbf" + jsonl([line(1), line(2, body={"model": "no"})])).id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    assert [(e.line, e.code) for e in batch.errors.data] == [(1, "invalid_json_line"), (2, "model_not_found")]


def test_cancelling(client: openai.OpenAI, admission: BatchAdmission) -> None:
    admission.per_second = 200
    made = create(client, jsonl([line(n) for n in range(1, 1001)]))
    await_(lambda: client.batches.retrieve(made.id).request_counts.completed > 20, "progress")  # type: ignore[union-attr]
    with pytest.raises(openai.ConflictError):
        client.files.content(made.id)
    done = [orjson.loads(text) for text in client.files.content(made.id, extra_query={"partial": "true"}).iter_lines()]
    numbers = [int(value["custom_id"][1:]) for value in done]
    assert len(numbers) > 20 and numbers == sorted(set(numbers))
    assert client.batches.cancel(made.id).status == "cancelling"
    batch = ended(client, made.id)
    assert batch.status == "cancelled" and batch.output_file_id and batch.error_file_id
    texts = [client.files.content(name).text for name in (batch.output_file_id, batch.error_file_id)]
    assert sum(text.count("\n") for text in texts) == 1000
    assert [client.files.content(made.id, extra_query={"kind": kind}).text for kind in ("output", "error")] == texts
    last = [orjson.loads(text) for text in texts[0].splitlines()]
    assert all(value in last for value in done)


class Halting(io.BytesIO):
    """A file that is read to `until`, and on when `go` is set."""

    def __init__(self, content: bytes, until: int) -> None:
        super().__init__(content)
        self.until = until
        self.go = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() >= self.until:
            assert self.go.wait(120)
        return super().read(size)


def test_uploads_survive_a_gateway_that_is_killed_in_their_middle(client: openai.OpenAI, world: World) -> None:
    content = b"a line of a large file\n" * 1_500_000
    half = len(content) // 2
    upload = client.uploads.create(filename="in.jsonl", purpose="batch", bytes=len(content), mime_type="text/jsonl")
    first = client.uploads.parts.create(upload.id, data=content[:half])
    # More than S3's first part of it: so its multipart uploads are begun when the gateway dies.
    part, whole = Halting(content[half:], 12_000_000), Halting(content, 12_000_000)
    before = world.gateway_pid
    with ThreadPoolExecutor(2) as pool:
        cut = [
            pool.submit(client.uploads.parts.create, upload.id, data=part),
            pool.submit(client.files.create, file=whole, purpose="batch"),
        ]
        await_(lambda: len(list(world.storage.unfinished())) == 2, "two uploads at work", 60)
        world.kill_gateway()
        part.go.set()
        whole.go.set()
        assert all(isinstance(one.exception(), openai.APIConnectionError) for one in cut)
    world.gateway()
    assert world.gateway_pid != before and len(list(world.storage.unfinished())) == 2
    second = client.uploads.parts.create(upload.id, data=content[half:])
    done = client.uploads.complete(upload.id, part_ids=[first.id, second.id])
    assert done.status == "completed" and done.file is not None
    assert client.files.content(done.file.id).content == content
    now = int(time.time())
    assert sweeper.unfinished(world.storage, now) == 0
    assert sweeper.unfinished(world.storage, now + sweeper.UNFINISHED_S) == 2
    assert not list(world.storage.unfinished()) and not list(world.storage.keys(places.upload_parts("acme", upload.id)))


def test_pages_and_refusals(client: openai.OpenAI) -> None:
    assert len(list(client.batches.list(limit=2))) >= 3
    assert len(list(client.files.list(limit=2))) >= 5
    with pytest.raises(openai.BadRequestError):
        create(client, b"", window="9d")
    with pytest.raises(openai.BadRequestError):
        client.files.create(file=b"x", purpose="fine-tune")
