"""Reads a batch's input file line by line from S3, a block ahead of its use, without ever waiting."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Final

from ingest.input_lines import InputLine, Splitter
from ingest.input_source import Source

# About 2,000 lines of 250 bytes; with the block being fetched, a reader holds about twice this.
BLOCK_BYTES: Final = 512 * 1024
REFILL_LINES: Final = 500


class InputReader:
    """Lines from (line, offset) on of what `find` gives. Use it from one thread; `executor` finds and fetches."""

    def __init__(self, find: Callable[[], Source], line: int, offset: int, executor: Executor) -> None:
        self._find = find
        self._source: Source | None = None
        self._executor = executor
        self._splitter = Splitter(line, offset)
        self._next = offset
        self._fetch: Future[bytes] | None = None
        self._ready: deque[InputLine] = deque()
        self._ended = False
        self._refill()

    @property
    def ended(self) -> bool:
        """Whether every line was taken."""
        return self._ended and not self._ready

    def take(self) -> InputLine | None:
        """The next line; None if it is not here yet or there is none. Raises Missing, StorageError of the fetch."""
        if len(self._ready) < REFILL_LINES and not self._ended:
            self._refill()
        return self._ready.popleft() if self._ready else None

    def _refill(self) -> None:
        if self._fetch is None:
            self._fetch = self._executor.submit(self._load, self._next)
        elif self._fetch.done():
            fetch, self._fetch = self._fetch, None
            block = fetch.result()
            self._next += len(block)
            self._ready.extend(self._splitter.feed(block))
            assert self._source is not None
            if self._next >= self._source.size:
                self._ready.extend(self._splitter.finish())
                self._ended = True
            else:
                self._fetch = self._executor.submit(self._load, self._next)

    def _load(self, start: int) -> bytes:
        if self._source is None:
            self._source = self._find()
        end = min(start + BLOCK_BYTES, self._source.size)
        return b"".join(self._source.blocks(start, end))
