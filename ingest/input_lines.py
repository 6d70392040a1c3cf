"""Lines out of blocks of bytes, in bounded memory. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ingest.batch_line import MAX_LINE_BYTES


class InputLine(NamedTuple):
    """A line of a file: its number from 1, the offset of its first byte, and its bytes without the newline."""

    number: int
    offset: int
    raw: bytes


class Splitter:
    """Cuts blocks at newlines. Of a line longer than `longest` it keeps one byte too many, enough to refuse it."""

    def __init__(self, number: int = 1, offset: int = 0, longest: int = MAX_LINE_BYTES) -> None:
        self._number = number
        self._offset = offset
        self._longest = longest
        self._rest = b""
        self._dropped = 0

    def feed(self, block: bytes) -> Iterator[InputLine]:
        """Lines that end within `block`. Exhaust it before the next call."""
        pieces = block.split(b"\n")
        pieces[0] = self._rest + pieces[0]
        last = pieces.pop()
        for piece in pieces:
            yield self._line(piece, newline=1)
        surplus = len(last) - self._longest - 1
        if surplus > 0:
            self._dropped += surplus
            last = last[: self._longest + 1]
        self._rest = last

    def finish(self) -> Iterator[InputLine]:
        """The last line, if the file does not end in a newline."""
        if self._rest:
            yield self._line(self._rest, newline=0)
            self._rest = b""

    def _line(self, piece: bytes, newline: int) -> InputLine:
        line = InputLine(self._number, self._offset, piece)
        self._number += 1
        self._offset += len(piece) + self._dropped + newline
        self._dropped = 0
        return line


class Chunker:
    """Cuts blocks behind their last newline, so that each piece is whole lines and a line is never in two pieces.

    Of a line longer than `longest` little more than that is kept: enough to refuse it.
    """

    def __init__(self, longest: int = MAX_LINE_BYTES) -> None:
        self._longest = longest
        self._rest = b""

    def feed(self, block: bytes) -> bytes:
        """The lines that end within `block`, each with its newline; empty if none does."""
        end = block.rfind(b"\n") + 1
        if not end:
            self._rest = (self._rest + block)[: self._longest + 1]
            return b""
        lines = self._rest + block[:end] if self._rest else block[:end]
        self._rest = block[end:][: self._longest + 1]
        return lines

    def finish(self) -> bytes:
        """The last line, without a newline, if the file does not end in one."""
        rest, self._rest = self._rest, b""
        return rest


def split(blocks: Iterable[bytes], longest: int = MAX_LINE_BYTES) -> Iterator[bytes]:
    """The lines of a file that comes in blocks, without their newlines; see Splitter about long ones."""
    splitter = Splitter(longest=longest)
    for block in blocks:
        for line in splitter.feed(block):
            yield line.raw
    for line in splitter.finish():
        yield line.raw
