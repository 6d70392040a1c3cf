"""Input files of batches for the benchmarks: as many lines as are asked for, made as they are read."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from typing import Final

from tests.bench.driver import LETTERS, WORDS

ENDPOINT: Final = "/v1/chat/completions"
# Lines made at once.
CHUNK: Final = 2_000


def blocks(lines: int, words: str = WORDS, model: str = "echo") -> Iterator[bytes]:
    """Lines with the custom ids 1 to `lines` and prompts that nobody has sent before, in blocks of whole lines."""
    run = uuid.uuid4().hex.translate(LETTERS)
    head = f'"method": "POST", "url": "{ENDPOINT}", "body": {{"model": "{model}", "temperature": 0, "max_tokens": 64, '
    text = f'{head}"messages": [{{"role": "user", "content": "{words} {run}'
    for first in range(1, lines + 1, CHUNK):
        numbers = range(first, min(first + CHUNK, lines + 1))
        yield "".join(f'{{"custom_id": "{n:09d}", {text} {n}"}}]}}}}\n' for n in numbers).encode()


class File(io.RawIOBase):
    """The same as a file to be read once, of which nothing is kept. `size` counts what was read."""

    def __init__(self, lines: int, model: str = "echo") -> None:
        self._blocks = blocks(lines, model=model)
        self._rest = b""
        self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes."""
        while size < 0 or len(self._rest) < size:
            block = next(self._blocks, b"")
            if not block:
                break
            self._rest += block
        found, self._rest = (self._rest, b"") if size < 0 else (self._rest[:size], self._rest[size:])
        self.size += len(found)
        return found
