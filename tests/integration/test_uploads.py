"""/v1/uploads on a real S3."""

from __future__ import annotations

import hashlib
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from test_files import app as plain_app
from test_files import call, services

from ingest import places, sweeper, upload_store, uploads
from ingest.file_store import FileStore
from ingest.services import Services
from ingest.storage import Storage, Unsupported
from ingest.upload_object import LIFE_S

__all__ = ["plain_app", "services"]
BIG = b"a line of a big part\n" * 300_000


@pytest.fixture
def app(plain_app: FastAPI, services: Services) -> FastAPI:
    plain_app.include_router(uploads.make_router(services))
    return plain_app


def begin(app: FastAPI, size: int, **more: Any) -> httpx.Response:
    asked = {"filename": "in.jsonl", "purpose": "batch", "bytes": size, "mime_type": "application/jsonl", **more}
    return call(app, "POST", "/v1/uploads", json=asked)


def part(app: FastAPI, upload_id: str, content: bytes, tenant: str = "files-a") -> httpx.Response:
    return call(app, "POST", f"/v1/uploads/{upload_id}/parts", tenant, files={"data": ("p", content)})


def complete(app: FastAPI, upload_id: str, part_ids: list[str], **more: Any) -> httpx.Response:
    return call(app, "POST", f"/v1/uploads/{upload_id}/complete", json={"part_ids": part_ids, **more})


def content(app: FastAPI, upload: dict[str, Any]) -> bytes:
    return call(app, "GET", f"/v1/files/{upload['file']['id']}/content").content


def left(services: Services, upload_id: str) -> list[str]:
    storage = Storage(services.s3, services.addresses.bucket)
    return list(storage.keys(places.upload_parts("files-a", upload_id)))


@pytest.mark.parametrize("pieces", [[BIG, BIG, b"end"], [b"small", b"", b"parts\n"], [b"one\ntwo"], []])
def test_parts_become_a_file_in_the_order_asked_for(app: FastAPI, services: Services, pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    made = begin(app, len(whole), expires_after={"anchor": "created_at", "seconds": 3600}).json()
    assert (made["object"], made["status"], made["file"]) == ("upload", "pending", None)
    backwards = [part(app, made["id"], piece).json() for piece in reversed(pieces)]
    assert all(p["object"] == "upload.part" and p["upload_id"] == made["id"] for p in backwards)
    names = [p["id"] for p in reversed(backwards)]
    part(app, made["id"], b"a part that nobody names")
    done = complete(app, made["id"], names, md5=hashlib.md5(whole).hexdigest()).json()
    assert (done["status"], done["file"]["bytes"], done["file"]["filename"]) == ("completed", len(whole), "in.jsonl")
    assert done["file"]["expires_at"] == done["file"]["created_at"] + 3600
    assert content(app, done) == whole
    assert complete(app, made["id"], names).json() == done, "a repetition gets the same answer"
    assert not left(services, made["id"])
    store = FileStore(Storage(services.s3, services.addresses.bucket))
    assert store.get("files-a", done["file"]["id"], 0).lines == len(whole.splitlines())


def test_a_server_that_does_not_copy(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> str:
        raise Unsupported("501")

    monkeypatch.setattr(Storage, "copy_part", refuse)
    made = begin(app, 2 * len(BIG)).json()
    names = [part(app, made["id"], BIG).json()["id"] for _ in range(2)]
    assert content(app, complete(app, made["id"], names).json()) == BIG * 2


def test_a_completion_that_was_cut_off_goes_on(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    made = begin(app, 6).json()
    first, second = (part(app, made["id"], piece).json()["id"] for piece in (b"abc", b"def"))
    with monkeypatch.context() as patch:
        patch.setattr(upload_store, "assemble", lambda *_: (_ for _ in ()).throw(upload_store.StorageError("killed")))
        assert complete(app, made["id"], [first, second]).status_code == 503
    assert complete(app, made["id"], [second, first]).status_code == 400, "what was decided stays so"
    assert part(app, made["id"], b"late").status_code == 400
    assert call(app, "POST", f"/v1/uploads/{made['id']}/cancel").status_code == 400
    assert content(app, complete(app, made["id"], [first, second]).json()) == b"abcdef"


def test_what_is_refused(app: FastAPI, services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, param in (
        ({"bytes": -1}, "bytes"),
        ({"bytes": uploads.MAX_FILE_BYTES + 1}, "bytes"),
        ({"purpose": "vision"}, "purpose"),
        ({"filename": ""}, "filename"),
        ({"mime_type": None}, "mime_type"),
        ({"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after"),
    ):
        refused = begin(app, 1, **more) if "bytes" not in more else begin(app, more["bytes"])
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
    made = begin(app, 3).json()
    name = part(app, made["id"], b"abc").json()["id"]
    assert part(app, made["id"], b"abc", "files-b").status_code == 404
    assert part(app, "upload_none", b"abc").status_code == 404
    monkeypatch.setattr("ingest.upload_object.MAX_PART_BYTES", 4)
    assert part(app, made["id"], b"abcde").status_code == 413
    for names, more in (([name, name], {}), (["part_no"], {}), ([], {}), ([name], {"md5": "0" * 32})):
        refused = complete(app, made["id"], names, **more)
        assert refused.status_code == 400 and set(refused.json()["error"]) == {"message", "type", "param", "code"}
    cancelled = call(app, "POST", f"/v1/uploads/{made['id']}/cancel").json()
    assert cancelled["status"] == "cancelled" and not left(services, made["id"])
    assert part(app, made["id"], b"abc").status_code == complete(app, made["id"], [name]).status_code == 400


def test_an_upload_that_is_never_ended_is_swept(app: FastAPI, services: Services) -> None:
    made = begin(app, 3).json()
    part(app, made["id"], b"abc")
    storage = Storage(services.s3, services.addresses.bucket)
    sweeper.expired(storage, made["created_at"] + LIFE_S)
    assert len(left(services, made["id"])) == 2
    sweeper.expired(storage, made["created_at"] + LIFE_S + upload_store.SWEPT_AFTER_S)
    assert not left(services, made["id"]) and part(app, made["id"], b"abc").status_code == 404
