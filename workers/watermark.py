"""Which offset of a partition may be committed: the contiguous low watermark. Pure.

Work finishes out of order. Only what lies below the first unfinished offset is committed; what finished beyond rides in
the commit's metadata, so that a restart does not run it again; and so does what may have killed a worker.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import Final

from workers.suspicion import Suspicion
from workers.suspicion import parse as parse_suspicion

PREFIX: Final = "1:"
# Kafka's offset.metadata.max.bytes is 4,096: 12,000 offsets are 1,500 bytes, 2,000 in base64; suspects are below 2,000.
BITS: Final = 12_000
# At most 1,000 may be finished beyond the watermark. Reading a partition pauses at WINDOW taken beyond it; at most one
# read of 200 is on its way then.
WINDOW: Final = 800


class Watermark:
    """Progress in one partition, from the committed offset `start`; `skip` finished beyond it before a restart."""

    def __init__(self, start: int, skip: frozenset[int] = frozenset(), suspicion: Suspicion | None = None) -> None:
        self.low = start
        self.suspicion = suspicion or Suspicion()
        self.dirty = False
        self._next = start
        self._taken: deque[int] = deque()
        self._finished = {offset for offset in skip if offset >= start}

    @property
    def crowded(self) -> bool:
        """Whether reading must wait until the watermark moves."""
        return len(self._taken) >= WINDOW

    @property
    def roomy(self) -> bool:
        """Whether a partition that was paused for being crowded may be read again."""
        return len(self._taken) <= WINDOW // 2

    def take(self, offset: int) -> bool:
        """Note that `offset` was read; whether it has to be run. Offsets may have gaps, but must ascend."""
        if offset < self._next:
            return False
        self._next = offset + 1
        self._taken.append(offset)
        fresh = offset not in self._finished
        if not fresh or len(self._taken) == 1:
            self._advance()
        self.dirty = self.dirty or not fresh
        return fresh

    def finish(self, offset: int) -> None:
        """Note that `offset` needs nothing more."""
        assert self.low <= offset < self._next, f"offset {offset} finished, but not taken"
        self._finished.add(offset)
        self.suspicion.finish(offset)
        self.dirty = True
        self._advance()

    def unread(self, end: int) -> int:
        """Records from here to the log's `end` that were not read yet."""
        return max(0, end - self._next)

    def unfinished(self, end: int) -> int:
        """Records from here to the log's `end` that are not finished, read or not."""
        return max(end, self._next) - self.low - len(self._finished)

    def start(self, offset: int) -> None:
        """Note that `offset`, a suspect, is about to run; it may once that is committed."""
        self.suspicion.start(offset)
        self.dirty = True

    def open(self, owner: str, now_ms: int) -> None:
        """Note that the process `owner` works on it."""
        self.suspicion.open(owner, self.low, now_ms)
        self.dirty = True

    def close(self) -> None:
        """Note that nobody does."""
        self.suspicion.close()
        self.dirty = True

    def _advance(self) -> None:
        while self._taken and self._taken[0] in self._finished:
            self._finished.discard(self._taken.popleft())
        self.low = self._taken[0] if self._taken else self._next

    def commit(self) -> tuple[int, str]:
        """(offset to commit, what finished beyond it as text of at most 4 KiB); clean until something finishes."""
        self.dirty = False
        return self.low, self._metadata()

    def _metadata(self) -> str:
        bits = 0
        for offset in self._finished:
            if 0 <= offset - self.low < BITS:
                bits |= 1 << (offset - self.low)
        text = base64.b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()
        found = self.suspicion.text(self.low)
        return f"{PREFIX}{text}:{found}" if found else PREFIX + text if bits else ""


def parse(low: int, metadata: str | None) -> tuple[frozenset[int], Suspicion]:
    """(offsets that had finished beyond `low`, what may have killed a worker); nothing if the metadata is not ours."""
    if not metadata or not metadata.startswith(PREFIX):
        return frozenset(), Suspicion()
    text, _, found = metadata.removeprefix(PREFIX).partition(":")
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return frozenset(), Suspicion()
    skip = frozenset(low + 8 * i + b for i, byte in enumerate(data) for b in range(8) if byte >> b & 1)
    return skip, parse_suspicion(low, found)
