"""A multipart/form-data body, streamed: the file's bytes go to S3 as they come and are never held as a whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import parse_options_header

from ingest import envelope

MAX_FIELD_BYTES: Final = 4_096
MAX_PARTS: Final = 16


def boundary(content_type: str) -> bytes:
    """The boundary a Content-Type names. Raises ApiError (400)."""
    kind, options = parse_options_header(content_type)
    mark = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not mark:
        raise envelope.invalid("Send the file as multipart/form-data.", "file")
    return mark


class Form:
    """Parses a form with one part called `field` and short text fields.

    `write(bytes)` takes the file's bytes as they come. After `finish`, `fields` has the text and `filename` is not
    None if there was a file.
    """

    def __init__(self, content_type: str, write: Callable[[bytes], None], field: str = "file") -> None:
        self.fields: dict[str, str] = {}
        self.filename: str | None = None
        self._write = write
        self._field = field
        self._parts = 0
        self._header = b""
        self._value = b""
        self._disposition = b""
        self._name = ""
        self._text = bytearray()
        self._ended = False
        self._parser = MultipartParser(
            boundary(content_type),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the body. Raises ApiError (400), and what `write` raises."""
        try:
            self._parser.write(data)
        except MultipartParseError as error:
            raise envelope.invalid(f"The form cannot be read: {error}") from error

    def finish(self) -> None:
        """Nothing follows. Raises ApiError (400) if the form is not whole."""
        if not self._ended:
            raise envelope.invalid("The form ends too early.")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise envelope.invalid(f"The form has more than {MAX_PARTS} parts.")
        self._header = self._value = self._disposition = b""
        self._name = ""
        self._text = bytearray()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        self._name = options.get(b"name", b"").decode(errors="replace")
        if self._name == self._field:
            if self.filename is not None:
                raise envelope.invalid("The form has more than one file.", self._field)
            self.filename = options.get(b"filename", b"file").decode(errors="replace")[:255] or "file"

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._field:
            self._write(data[start:end])
            return
        self._text += data[start:end]
        if len(self._text) > MAX_FIELD_BYTES:
            raise envelope.invalid(f"{self._name} is longer than {MAX_FIELD_BYTES} bytes.", self._name)

    def _part_end(self) -> None:
        if self._name != self._field:
            self.fields[self._name] = self._text.decode(errors="replace")

    def _end(self) -> None:
        self._ended = True
