"""The files of a batch are the same however often, and wherever, the batcher was killed while it wrote them."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from msgspec.structs import replace

from ingest import assembly, batch_jobs, file_object, object_writer, parts, places
from ingest.batch_document import Document, Private, Run
from ingest.batch_object import Batch, Counts
from ingest.bitmap import Bitmap
from ingest.object_writer import Paused, Writer
from ingest.results import Kind, Outcome
from ingest.storage import Missing, Storage, StorageError
from tests.unit.bucket import Bucket, Killed

T = TypeVar("T")
LINES = 300
BATCH = Batch("batch_1", "/v1/chat/completions", "file-1", "24h", 1, 2, request_counts=Counts(LINES))
PRIVATE = Private("acme", "demo", 1_000, 10**13, epoch=1, validated=True)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_writer, "UPLOAD_PART_BYTES", 400)
    monkeypatch.setattr(object_writer, "PARTS_OF_A_SIZE", 5)


class World:
    """A batch whose outcomes come in an order of their own, in parts of ten, and who writes its files."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.bucket = Bucket()
        self.storage = Storage(self.bucket, "b")
        self.document = Document(BATCH, PRIVATE)
        errors = self.chance.choice([0, 0.05, 0.5, 1])
        kinds: list[Kind] = ["e" if self.chance.random() < errors else "o" for _ in range(LINES)]
        self.outcomes = [
            Outcome(n, kind, b'{"n":%d,"x":"%b"}' % (n, b"x" * self.chance.randrange(30)))
            for n, kind in enumerate(kinds, 1)
        ]
        self._waiting = sorted(self.outcomes, key=lambda o: o.line + self.chance.randrange(40))
        self._bitmap = Bitmap(LINES)

    def more(self) -> bool:
        """Store the next part and count it in; False if there is none."""
        if not self._waiting:
            return False
        some, self._waiting = sorted(self._waiting[:10]), self._waiting[10:]
        private = self.document.private
        sequence = private.parts[-1].last + 1 if private.parts else 0
        key = parts.key("batch_1", 1, sequence, some[0].line, some[-1].line)
        self.storage.put(key, parts.encode(some))
        for outcome in some:
            self._bitmap.add(outcome.line)
        private = replace(private, done=self._bitmap.encode(), parts=(Run(1, 0, sequence),))
        self.document = replace(self.document, private=private)
        return True

    def surviving(self, call: Callable[[Storage, Document], T]) -> T:
        """What a call answers after some were killed at a random moment, and each time begun anew."""
        while self.chance.random() < 0.6:
            self.bucket.kill_at, self.bucket.carry_out = self.chance.randrange(1, 12), self.chance.random() < 0.5
            try:
                return call(self.storage, self.document)
            except Killed:
                pass
            finally:
                self.bucket.kill_at = -1
        return call(self.storage, self.document)

    def expected(self, kind: Kind) -> bytes:
        return b"".join(o.text + b"\n" for o in self.outcomes if o.kind == kind)

    def content(self, file_id: str | None) -> bytes:
        if file_id is None:
            return b""
        body = self.storage.get(places.file_content("acme", file_id)).body
        shown = file_object.decode(self.storage.get(places.file_object("acme", file_id)).body)
        assert (shown.bytes, shown.created_at) == (len(body), 7)
        return body


@pytest.mark.parametrize("seed", range(60))
def test_files_survive_kills_at_any_call(seed: int) -> None:
    world = World(seed)
    while world.more():
        if world.chance.random() < 0.3:
            key = world.surviving(batch_jobs.assemble).key
            assert assembly.through(key) == Bitmap.low_of(world.document.private.done)
            # The document that would say so may not have been stored either.
            if world.chance.random() < 0.8:
                world.document = replace(world.document, private=replace(world.document.private, assembly=key))
            if world.chance.random() < 0.1:  # S3 may remove an upload that takes long
                world.bucket.uploads.clear()
    world.document = replace(world.document, private=replace(world.document.private, ended_ms=7_000))
    for _ in range(world.chance.choice([1, 2])):
        files = world.surviving(batch_jobs.finalise)
    assert world.content(files.output) == world.expected("o")
    assert world.content(files.error) == world.expected("e")
    told: list[Document] = []
    world.surviving(partial(batch_jobs.clean, announce=told.append))
    assert told and all(document is world.document for document in told)
    assert all(key.startswith("files/") for key in world.bucket.objects)
    assert not (world.document.private.assembly and world.bucket.uploads)


def test_what_was_merged_is_not_read_again() -> None:
    world = World(1)
    while world.more():
        pass
    key = batch_jobs.assemble(world.storage, world.document).key
    assert assembly.through(key) == LINES
    private = replace(world.document.private, assembly=key, ended_ms=7_000)
    world.bucket.calls.clear()
    batch_jobs.finalise(world.storage, replace(world.document, private=private))
    assert world.bucket.calls.count("get_object") == 1, "but for how far it was"
    assert not world.bucket.uploads


def test_parts_of_an_upload_grow() -> None:
    bucket = Bucket()
    writer = Writer(Storage(bucket, "b"), "k", Paused())
    for _ in range(100):
        writer.write(b"x" * 100)
    sizes = [len(part) for _, part in sorted(bucket.uploads["1"][1].items())]
    assert sizes == [400] * 5 + [800] * 5 + [1200] * 3
    assert writer.close() == 10_000 == len(bucket.objects["k"])


def test_a_part_that_is_not_taken_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket, content = Bucket(), bytes(range(250)) * 4
    writer = Writer(Storage(bucket, "b"), "k", Paused())
    with monkeypatch.context() as patch:
        patch.setattr(Storage, "send_part", lambda *_: (_ for _ in ()).throw(StorageError("503")))
        with pytest.raises(StorageError):
            writer.write(content)
    again = Writer(Storage(bucket, "b"), "k", writer.pause())
    again.write(b"end")
    assert again.close() == 1_003 and bucket.objects["k"] == content + b"end"


def test_an_upload_may_be_closed_twice() -> None:
    bucket = Bucket()
    writer = Writer(Storage(bucket, "b"), "k", Paused())
    writer.write(b"x" * 400)
    paused = writer.pause()
    assert [Writer(Storage(bucket, "b"), "k", paused).close() for _ in range(2)] == [400, 400]
    bucket.objects["k"] += b"other"
    with pytest.raises(Missing):
        Writer(Storage(bucket, "b"), "k", paused).close()
