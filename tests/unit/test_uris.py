"""s3:// URIs: what they name, who may name it, and folders that are read as one file."""

from __future__ import annotations

import pytest

from ingest import input_source
from ingest.input_source import Piece, Source
from ingest.storage import Storage, StorageError
from schemas import uris
from schemas.uris import Uri
from tests.unit.bucket import Bucket


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("s3://data/in/a.jsonl", Uri("data", "in/a.jsonl")),
        ("s3://data/in/", Uri("data", "in/")),
        ("s3://data", Uri("data", "")),
        ("s3://data/", Uri("data", "")),
        ("https://data/in", None),
        ("s3://Data/in", None),
        ("s3://data/in/../out", None),
        ("s3://data/in//a", None),
        ("s3://data/./a", None),
        ("s3://data/in\\..\\out", None),
        ("s3://data/" + "k" * 1000, None),
    ],
)
def test_a_uri_means_one_place_or_none(text: str, found: Uri | None) -> None:
    assert uris.parse(text) == found


@pytest.mark.parametrize(
    ("uri", "prefix", "may"),
    [
        ("s3://bkt/in/x", "s3://bkt/in", True),
        ("s3://bkt/in/", "s3://bkt/in/", True),
        ("s3://bkt/in", "s3://bkt/in/", True),
        ("s3://bkt/inner/x", "s3://bkt/in", False),
        ("s3://other/in/x", "s3://bkt/in", False),
        ("s3://bkt/x", "s3://bkt", True),
    ],
)
def test_a_prefix_allows_what_is_below_it(uri: str, prefix: str, may: bool) -> None:
    place = uris.parse(uri)
    assert place is not None and uris.allowed(place, [prefix]) is may


def test_pieces_are_read_as_one_file_from_anywhere() -> None:
    bucket = Bucket()
    bucket.objects = {"a": b"one\ntwo", "b": b"", "c": b"three\n", "d": b"four"}
    pieces = tuple(Piece(key, len(body), open_end=key == "a") for key, body in bucket.objects.items())
    source = Source(Storage(bucket, "b"), "b", pieces)
    whole = b"one\ntwo\nthree\nfour"
    assert source.size == len(whole)
    for start in range(len(whole) + 1):
        for end in range(start, len(whole) + 1):
            assert b"".join(source.blocks(start, end)) == whole[start:end]


def test_a_folder_is_what_ends_in_jsonl_below_it_in_the_order_of_keys() -> None:
    bucket = Bucket()
    bucket.objects = dict.fromkeys(["in/b.jsonl", "in/a/z.jsonl", "in/a.txt", "in/é.jsonl", "inner/a.jsonl"], b"1")
    found = input_source.find(Storage(bucket, "ours"), "acme", "s3://theirs/in")
    assert [piece.key for piece in found.pieces] == ["in/a/z.jsonl", "in/b.jsonl", "in/é.jsonl"]


def test_an_object_that_is_being_written_has_a_key_and_is_no_piece_yet() -> None:
    bucket = Bucket()
    bucket.objects = dict.fromkeys(["in/a.jsonl", "in/b.jsonl"], b"1")
    bucket.being_written = {"in/b.jsonl"}
    storage = Storage(bucket, "ours")
    assert list(storage.keys("in/")) == ["in/a.jsonl", "in/b.jsonl"]
    with pytest.raises(StorageError, match=r"in/b\.jsonl is being written"):
        input_source.find(storage, "acme", "s3://theirs/in")
    bucket.being_written.clear()
    assert len(input_source.find(storage, "acme", "s3://theirs/in").pieces) == 2
