"""What is swept out of a real S3, and what is not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from parts import Parts

from ingest import ids, places, sweeper
from ingest.batch_store import BatchStore, Promise
from ingest.batches import document, read_order
from ingest.file_object import FileObject
from ingest.file_store import FileStore
from ingest.services import s3_client
from ingest.storage import Missing, Storage
from schemas.addresses import Addresses
from schemas.config import Principal

DAY = 86_400
NOW = int(time.time())


@pytest.fixture(scope="module")
def storage(parts: Parts) -> Storage:
    if "s3" not in parts.processes:
        parts.start("s3")
    addresses = Addresses.of(parts.environment("gateway"))
    made = Storage(s3_client(addresses), "swept")
    made.prepare()
    return made


@pytest.fixture(autouse=True)
def empty(storage: Storage) -> Iterator[None]:
    yield
    storage.delete(list(storage.keys("")))


def file_of(storage: Storage, name: str, expires_at: int | None = None) -> str:
    file_id = ids.newest_first(ids.FILE, 0, name.encode())
    storage.put(places.file_content("t", file_id), b"{}\n")
    FileStore(storage).put("t", FileObject(file_id, 3, NOW, name, "batch", expires_at))
    return file_id


def test_expired_files_go_and_others_stay(storage: Storage) -> None:
    gone, later, never = file_of(storage, "a", NOW), file_of(storage, "b", NOW + 100), file_of(storage, "c")
    assert sweeper.expired(storage, NOW) == 1 and sweeper.expired(storage, NOW) == 0
    kept = {places.file_object("t", f) for f in (later, never)} | {places.file_content("t", f) for f in (later, never)}
    assert set(storage.keys(places.files("t"))) == kept
    with pytest.raises(Missing):
        FileStore(storage).get("t", gone, NOW)
    assert [f.id for f in FileStore(storage).list("t", "", 9, "", False, NOW + 100)] == [never]
    assert sweeper.expired(storage, NOW + 100) == 1


def test_an_expired_file_stays_while_a_batch_reads_it(storage: Storage) -> None:
    file_id = file_of(storage, "a", NOW)
    asked = {"input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "1h"}
    promise = Promise(ids.newest_first(ids.BATCH, 1, b""), 1, "")
    BatchStore(storage).create(document(read_order(asked), Principal("t", "k", ("client",)), promise))
    assert sweeper.expired(storage, NOW) == 0
    storage.delete([places.open_batch("t", promise.batch_id)])
    assert sweeper.expired(storage, NOW) == 1 and not list(storage.keys(places.files("t")))


def test_bytes_without_a_file_go_after_a_day(storage: Storage) -> None:
    whole = file_of(storage, "whole")
    alone = [ids.newest_first(ids.FILE, at, b"") for at in (1, 2)]
    for file_id in alone:
        storage.put(places.file_content("t", file_id), b"left behind")
    assert sweeper.orphaned(storage, NOW + 60) == 0
    assert sweeper.orphaned(storage, NOW + 2 * DAY) == 2
    assert set(storage.keys(places.FILES)) == {places.file_object("t", whole), places.file_content("t", whole)}


def test_an_upload_that_never_ends_is_given_up(storage: Storage) -> None:
    upload = storage.begin_upload("files/t/x.content")
    storage.send_part("files/t/x.content", upload, 1, b"x")
    assert sweeper.unfinished(storage, NOW) == 0
    assert sweeper.unfinished(storage, NOW + sweeper.UNFINISHED_S - 1) == 0
    assert [u for _, u in storage.unfinished()] == [upload]
    assert sweeper.unfinished(storage, NOW + sweeper.UNFINISHED_S) == 1
    assert not list(storage.unfinished())


def test_a_round_does_it_all_and_survives_a_store_that_fails(storage: Storage) -> None:
    file_of(storage, "a", NOW)
    sweeper.sweep(storage, NOW, orphans=True)
    assert not list(storage.keys(places.FILES))
    sweeper.sweep(Storage(storage._client, "no-such-bucket"), NOW, orphans=True)
