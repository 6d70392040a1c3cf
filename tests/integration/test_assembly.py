"""Files written while their batch runs, on the real S3 server: uploads resumed, parts sent twice, leftovers."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from parts import Parts

from ingest import batch_jobs, places
from ingest import parts as stored_parts
from ingest.batch_document import Document, Private, Run
from ingest.batch_object import Batch, Counts
from ingest.bitmap import Bitmap
from ingest.object_writer import Writer
from ingest.results import Outcome
from ingest.services import s3_client
from ingest.storage import Missing, Storage
from schemas.addresses import Addresses

LINES = 9_000
STEPS = 3


@pytest.fixture(scope="module")
def storage(parts: Parts) -> Storage:
    parts.start("s3")
    addresses = Addresses.of(parts.environment("test"))
    made = Storage(s3_client(addresses), addresses.bucket)
    made.prepare()
    return made


def text(line: int) -> bytes:
    return b'{"n":%d,"x":"%b"}' % (line, b"x" * 2_500)


def test_uploads_go_on_where_they_were(storage: Storage) -> None:
    batch = Batch("batch_1", "/v1/embeddings", "file-1", "24h", 1, 2, request_counts=Counts(LINES))
    document = Document(batch, Private("acme", "demo", 1_000, 10**13, epoch=1, validated=True))
    bitmap, each = Bitmap(LINES), LINES // STEPS
    for step in range(STEPS):
        lines = range(step * each + 1, step * each + each + 1)
        key = stored_parts.key("batch_1", 1, step, lines[0], lines[-1])
        storage.put(key, stored_parts.encode(Outcome(n, "e" if n % 100 == 0 else "o", text(n)) for n in lines))
        for line in lines:
            bitmap.add(line)
        private = replace(document.private, done=bitmap.encode(), parts=(Run(1, 0, step),))
        document = replace(document, private=private)
        batch_jobs.assemble(storage, document)  # as if killed before the document said so
        made = batch_jobs.assemble(storage, document)
        document = replace(document, private=replace(private, assembly=made.key))
    document = replace(document, private=replace(document.private, ended_ms=7_000))
    files = batch_jobs.finalise(storage, document)
    assert files.output and files.error
    for name, wanted in ((files.output, lambda n: n % 100), (files.error, lambda n: not n % 100)):
        content = storage.get(places.file_content("acme", name)).body
        assert content == b"".join(text(n) + b"\n" for n in range(1, LINES + 1) if wanted(n))
    assert batch_jobs.finalise(storage, document) == files
    told: list[Document] = []
    batch_jobs.clean(storage, document, told.append)
    assert told == [document]
    kept = list(storage.keys(""))
    assert len(kept) == 4 and all(key.startswith("files/acme/") for key in kept)


def test_an_upload_that_is_gone(storage: Storage) -> None:
    writer = Writer(storage, "somewhere")
    writer.write(b"x" * 9_000_000)
    paused = writer.pause()
    assert paused.upload and paused.size == 9_000_000 and len(paused.rest) < paused.size
    storage.abort_uploads("somewhere")
    with pytest.raises(Missing):
        Writer(storage, "somewhere", paused).close()
