"""/v1/files and /v1/batches on a real S3; Kafka is a double that remembers what was appended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI, Request
from parts import Parts
from starlette.responses import Response

from ingest import batches, files, places
from ingest.envelope import ApiError
from ingest.file_object import FileObject
from ingest.file_store import FileStore
from ingest.follower import Follower
from ingest.journal import Journal
from ingest.services import Services
from ingest.storage import Storage
from schemas import config, config_check
from schemas.addresses import Addresses
from schemas.wire import Codec

CONFIG = {
    "tenants": {t: {"keys": [{"name": "k", "key": f"key-{t}"}]} for t in ("files-a", "files-b")},
    "pools": {"p": {"engine": "echo"}},
    "models": {"echo": {"route": ["p"]}},
}


@dataclass
class JournalDouble:
    """Remembers what was appended."""

    records: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def append(self, topic: str, key: str, schema: str, record: dict[str, Any]) -> asyncio.Future[None]:
        self.records.append((topic, record))
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


@pytest.fixture(scope="module")
def services(parts: Parts) -> Services:
    if "s3" not in parts.processes:
        parts.start("s3")
    addresses = Addresses.of(parts.environment("gateway"))
    follower = SimpleNamespace(current=config.document(config_check.parse(CONFIG)))
    journal = cast(Journal, JournalDouble())
    made = Services(addresses, Codec.offline(), journal, cast(Follower, follower))
    Storage(made.s3, addresses.bucket).prepare()
    return made


async def show(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return error.response()


@pytest.fixture
def app(services: Services) -> FastAPI:
    api = FastAPI()
    api.add_exception_handler(ApiError, show)
    api.include_router(files.make_router(services))
    api.include_router(batches.make_router(services))
    return api


def call(app: FastAPI, method: str, path: str, tenant: str = "files-a", **arguments: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            headers = {"authorization": f"Bearer key-{tenant}", **arguments.pop("headers", {})}
            return await client.request(method, path, headers=headers, **arguments)

    return asyncio.run(run())


def upload(app: FastAPI, content: bytes = b"{}\n", tenant: str = "files-a", **fields: str) -> httpx.Response:
    data = {"purpose": "batch", **fields}
    return call(app, "POST", "/v1/files", tenant, files={"file": ("in.jsonl", content)}, data=data)


def order(file_id: str, **changes: Any) -> dict[str, Any]:
    return {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h", **changes}


def test_a_file_lives_and_goes(app: FastAPI) -> None:
    content = bytes(range(256)) * 50_000  # 12.8 MB: two parts of a multipart upload
    created = upload(app, content).json()
    assert (created["object"], created["bytes"], created["filename"]) == ("file", len(content), "in.jsonl")
    assert (created["purpose"], created["status"]) == ("batch", "processed")
    assert call(app, "GET", f"/v1/files/{created['id']}").json() == created
    path = f"/v1/files/{created['id']}/content"
    assert call(app, "GET", path).content == content
    part = call(app, "GET", path, headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, content[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{len(content)}"
    assert call(app, "GET", path, headers={"range": "bytes=-5"}).content == content[-5:]
    rest = {"range": "bytes=10-", "if-range": part.headers["etag"]}
    assert call(app, "GET", path, headers=rest).content == content[10:]
    assert call(app, "GET", path, headers={**rest, "if-range": '"another"'}).content == content
    head = call(app, "HEAD", path, headers={"range": "bytes=10-19"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (206, b"", "10")
    assert call(app, "GET", path, headers={"range": f"bytes={len(content)}-"}).status_code == 416
    for method, place in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        assert call(app, method, f"/v1/files/{created['id']}{place}", "files-b").status_code == 404
    assert call(app, "DELETE", f"/v1/files/{created['id']}").json()["deleted"] is True
    assert call(app, "GET", path).status_code == 404


def test_what_is_no_upload(app: FastAPI, services: Services) -> None:
    assert upload(app, purpose="fine-tune").status_code == 400
    assert upload(app, **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "60"}).status_code == 400
    assert call(app, "POST", "/v1/files", json={}).status_code == 400
    assert call(app, "POST", "/v1/files", files={"other": b"x"}, data={"purpose": "batch"}).status_code == 400
    cut = {"content-type": "multipart/form-data; boundary=b"}
    assert call(app, "POST", "/v1/files", content=b"--b\r\nContent-Dis", headers=cut).status_code == 400
    assert call(app, "POST", "/v1/files", content=b"junk", headers=cut).status_code == 400
    assert call(app, "GET", "/v1/files/..%2f..%2fetc").status_code == 404
    assert call(app, "GET", "/v1/files", headers={"authorization": "Bearer nobody"}).status_code == 401
    storage = Storage(services.s3, services.addresses.bucket)
    assert not list(storage.keys(places.files("files-a"))), "a refused upload leaves nothing"


def test_a_file_larger_than_the_limit(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 3_000_000)
    refused = upload(app, b"x" * 3_000_001)
    assert (refused.status_code, refused.json()["error"]["code"]) == (413, "request_too_large")


def test_an_upload_is_not_held_in_memory(app: FastAPI) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    tail = b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b--\r\n'

    async def body() -> AsyncIterator[bytes]:
        yield head
        for _ in range(400):
            yield b"y" * 65_536
        yield tail

    kind = {"content-type": "multipart/form-data; boundary=b"}
    created = call(app, "POST", "/v1/files", content=body(), headers=kind).json()
    assert created["bytes"] == 400 * 65_536 and "lines" not in created
    call(app, "DELETE", f"/v1/files/{created['id']}")


def test_lines_are_counted_on_the_way_and_kept_to_ourselves(app: FastAPI, services: Services) -> None:
    shown = upload(app, b"{}\n" * 400_000 + b"{}").json()
    store = FileStore(Storage(services.s3, services.addresses.bucket))
    stored = store.get("files-a", shown["id"], 0)
    assert stored.lines == 400_001 and "lines" not in shown
    assert "lines" not in call(app, "GET", f"/v1/files/{shown['id']}").json()


def test_files_are_listed_newest_first(app: FastAPI) -> None:
    made = [upload(app, b"x" * n, "files-b").json()["id"] for n in range(5)]
    everything = call(app, "GET", "/v1/files", "files-b").json()
    assert [f["id"] for f in everything["data"]] == made[::-1] and everything["has_more"] is False
    assert [f["bytes"] for f in call(app, "GET", "/v1/files?order=asc", "files-b").json()["data"]] == [0, 1, 2, 3, 4]
    first = call(app, "GET", "/v1/files?limit=2", "files-b").json()
    assert first["has_more"] and first["last_id"] == made[3]
    after = call(app, "GET", f"/v1/files?limit=9&after={made[3]}", "files-b").json()
    assert [f["id"] for f in after["data"]] == made[2::-1]
    rising = call(app, "GET", f"/v1/files?order=asc&after={made[1]}", "files-b").json()
    assert [f["id"] for f in rising["data"]] == made[2:]
    assert call(app, "GET", "/v1/files?purpose=batch_output", "files-b").json()["data"] == []
    assert call(app, "GET", "/v1/files?limit=0", "files-b").status_code == 400


def test_an_expired_file_is_gone(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    expiry = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    created = upload(app, **expiry).json()
    assert created["expires_at"] == created["created_at"] + 3600
    later = time.time() + 3601
    monkeypatch.setattr(FileObject, "expired", lambda self, _now: bool(self.expires_at and later >= self.expires_at))
    assert call(app, "GET", f"/v1/files/{created['id']}").status_code == 404


def test_a_batch_is_made_shown_and_cancelled(app: FastAPI, services: Services) -> None:
    file_id = upload(app).json()["id"]
    made = call(app, "POST", "/v1/batches", json=order(file_id, metadata={"a": "b"})).json()
    assert (made["object"], made["status"], made["metadata"]) == ("batch", "validating", {"a": "b"})
    assert made["expires_at"] == made["created_at"] + 86_400 and made["errors"] is None
    journal = cast(JournalDouble, services.journal)
    assert journal.records[-1][0] == "batch_commands" and journal.records[-1][1]["command"] == "start"
    path = f"/v1/batches/{made['id']}"
    assert call(app, "GET", path).json() == made
    assert call(app, "GET", path, "files-b").status_code == 404
    assert call(app, "POST", f"{path}/cancel", "files-b").status_code == 404
    assert call(app, "DELETE", f"/v1/files/{file_id}").status_code == 409
    cancelled = call(app, "POST", f"{path}/cancel").json()
    assert cancelled["status"] == "cancelling" and cancelled["cancelling_at"]
    assert call(app, "POST", f"{path}/cancel").json() == cancelled
    assert journal.records[-1][1]["command"] == "cancel"


def test_what_is_no_batch(app: FastAPI) -> None:
    file_id = upload(app).json()["id"]
    foreign = upload(app, tenant="files-b").json()["id"]
    bad: list[tuple[Any, int, str | None]] = [
        (order(file_id, completion_window="8d"), 400, "completion_window"),
        (order(file_id, completion_window="1 day"), 400, "completion_window"),
        (order(file_id, endpoint="/v1/images"), 400, "endpoint"),
        (order(file_id, metadata={"k": 1}), 400, "metadata"),
        (order(file_id, output_expires_after={"anchor": "created_at", "seconds": 1}), 400, "output_expires_after"),
        (order("file-none"), 404, "input_file_id"),
        (order(foreign), 404, "input_file_id"),
        (order(""), 400, "input_file_id"),
        ([], 400, None),
    ]
    for body, status, param in bad:
        answer = call(app, "POST", "/v1/batches", json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, param), body
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert call(app, "POST", "/v1/batches", content=b"{").status_code == 400
    assert call(app, "GET", "/v1/batches/batch_none").status_code == 404


def test_an_idempotency_key_makes_one_batch(app: FastAPI) -> None:
    file_id = upload(app).json()["id"]
    key = {"idempotency-key": "once"}
    first = call(app, "POST", "/v1/batches", json=order(file_id), headers=key).json()
    assert call(app, "POST", "/v1/batches", json=order(file_id), headers=key).json() == first
    other = call(app, "POST", "/v1/batches", json=order(file_id, completion_window="1h"), headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (400, "idempotency_error")
    other = upload(app, tenant="files-b").json()["id"]
    assert call(app, "POST", "/v1/batches", "files-b", json=order(other), headers=key).json()["id"] != first["id"]


def test_batches_are_listed_newest_first(app: FastAPI) -> None:
    file_id = upload(app, tenant="files-b").json()["id"]
    before = {b["id"] for b in call(app, "GET", "/v1/batches?limit=100", "files-b").json()["data"]}
    made = [call(app, "POST", "/v1/batches", "files-b", json=order(file_id)).json()["id"] for _ in range(3)]
    page = call(app, "GET", "/v1/batches?limit=2", "files-b").json()
    assert [b["id"] for b in page["data"]] == [made[2], made[1]] and page["has_more"] is True
    assert (page["first_id"], page["last_id"]) == (made[2], made[1])
    rest = call(app, "GET", f"/v1/batches?after={made[1]}", "files-b").json()
    assert {b["id"] for b in rest["data"]} == {made[0]} | before
    assert rest["has_more"] is False
    assert call(app, "GET", "/v1/batches?limit=101", "files-b").status_code == 400
