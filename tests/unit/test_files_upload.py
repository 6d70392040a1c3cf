"""Uploads and ranges, without S3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import file_object, files, object_writer
from ingest.envelope import ApiError
from ingest.file_object import FileObject, Lines, StoredFile
from ingest.form import Form

KIND = "multipart/form-data; boundary=b"
FORM = (
    b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    b'--b\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\nline 1\r\n--bline 2\n\r\n--b--\r\n"
)


@given(st.integers(1, len(FORM)))
def test_a_form_does_not_depend_on_its_pieces(size: int) -> None:
    got = bytearray()
    upload = Form(KIND, got.extend)
    for at in range(0, len(FORM), size):
        upload.feed(FORM[at : at + size])
    upload.finish()
    assert (upload.filename, upload.fields) == ("in.jsonl", {"purpose": "batch"})
    assert bytes(got) == b"line 1\r\n--bline 2\n"


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="])
def test_what_is_no_form(kind: str) -> None:
    with pytest.raises(ApiError) as refused:
        Form(kind, lambda _: None)
    assert refused.value.status == 400


@pytest.mark.parametrize(
    "form",
    [
        FORM[:-6],
        b"no form at all",
        FORM[:-4] + b'\r\nContent-Disposition: form-data; name="file"; filename="second"\r\n\r\n\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n' + b"x" * 5000 + b"\r\n--b--\r\n",
    ],
)
def test_a_broken_form(form: bytes) -> None:
    upload = Form(KIND, lambda _: None)
    with pytest.raises(ApiError) as refused:
        upload.feed(form)
        upload.finish()
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 100, False)),
        ("bytes=0-9", (0, 10, True)),
        ("bytes=90-", (90, 100, True)),
        ("bytes=90-1000", (90, 100, True)),
        ("bytes=-10", (90, 100, True)),
        ("bytes=-1000", (0, 100, True)),
        ("bytes=9-3", (0, 100, False)),
        ("bytes=0-1,4-5", (0, 100, False)),
        ("bytes=-", (0, 100, False)),
        ("lines=1-2", (0, 100, False)),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int, bool]) -> None:
    assert files.byte_range(header, 100) == expected


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=-0"])
def test_a_range_behind_the_end(header: str) -> None:
    with pytest.raises(ApiError) as refused:
        files.byte_range(header, 100)
    assert (refused.value.status, refused.value.headers) == (416, {"content-range": "bytes */100"})


@given(st.lists(st.binary(max_size=4)))
def test_lines_do_not_depend_on_pieces(pieces: list[bytes]) -> None:
    lines = Lines()
    for piece in pieces:
        lines.add(piece)
    whole = b"".join(pieces)
    assert lines.count == len(whole.split(b"\n")) - (not whole or whole.endswith(b"\n"))


def test_what_is_stored_of_a_file_is_more_than_what_is_shown_and_old_files_stay_readable() -> None:
    shown = FileObject("file-1", 3, 1, "x", "batch", 5)
    stored = StoredFile("file-1", 3, 1, "x", "batch", 5, lines=7)
    assert stored.shown() == shown and type(stored.shown()) is FileObject
    assert file_object.decode(file_object.encode(stored)) == stored
    assert file_object.decode(file_object.encode(shown)).lines is None


def test_ten_thousand_parts_suffice_for_the_largest_file() -> None:
    assert sum(map(object_writer.part_bytes, range(1, 10_001))) > files.MAX_FILE_BYTES
    assert max(map(object_writer.part_bytes, range(1, 10_001))) <= 32 * 1024 * 1024
