"""Answers that may be given again: by key, bounded in number, size and age; the oldest go first. Pure."""

from __future__ import annotations

from typing import Final, cast

from schemas.config import Cache
from schemas.records import Cached, Ledger
from schemas.wire import StateCodec
from streams.stores import Table

# Answers whose time is over that are removed when another is kept: more than one, so that they never pile up.
SWEPT_AT_ONCE: Final = 4
# What an entry takes beside its body, in bytes: keys, and the fields of its record.
OVERHEAD: Final = 160


def _place(number: int) -> str:
    return f"\0{number}"


class Answers:
    """The cache of one tenant: requests in flight that others may follow, and finished answers."""

    def __init__(self, table: Table, codec: StateCodec, ledger: Ledger | None) -> None:
        self._table, self._codec = table, codec
        self._first = ledger["answers_first"] if ledger else 0
        self._next = ledger["answers_next"] if ledger else 0
        self.size = ledger["answers_bytes"] if ledger else 0
        self._oldest: tuple[int, int, str] | None = None

    @property
    def changes(self) -> int:
        """Grows with every change of what the Ledger record says of the cache."""
        return self._first + self._next

    @property
    def count(self) -> int:
        """Answers kept."""
        return self._next - self._first

    def get(self, key: str) -> Cached | None:
        """What is known of an answer, or None. It may be older than it may be given."""
        data = self._table.get(key)
        return cast(Cached, self._codec.decode("Cached", data)) if data is not None else None

    def lead(self, key: str, request_id: str) -> None:
        """From now on a request in flight stands for the answer."""
        entry = dict.fromkeys(("expires_at", "http_status", "input_tokens", "output_tokens", "cached_tokens"), 0)
        self._table.put(
            key, self._codec.encode("Cached", {**entry, "reasoning_tokens": 0, "leader": request_id, "body": b""})
        )

    def keep(self, key: str, answer: Cached, limits: Cache, now_ms: int) -> None:
        """Remember an answer, and forget what is too old or too much."""
        size = len(answer["body"]) + OVERHEAD
        self._table.put(key, self._codec.encode("Cached", answer))
        self._table.put(_place(self._next), f"{answer['expires_at']} {size} {key}".encode())
        self._next += 1
        self.size += size
        for _ in range(SWEPT_AT_ONCE):
            if not self._sweep(limits, now_ms):
                break

    def clear(self) -> int:
        """Forget all finished answers; how many there were. Who leads goes on."""
        count = self.count
        while self.count:
            self._remove(*self._head())
        return count

    def _sweep(self, limits: Cache, now_ms: int) -> bool:
        """Remove the oldest answer if it has to go; whether it had to."""
        if not self.count:
            return False
        oldest = self._head()
        if oldest[0] > now_ms and self.count <= limits.max_answers and self.size <= limits.max_bytes:
            return False
        self._remove(*oldest)
        return True

    def _head(self) -> tuple[int, int, str]:
        """When the oldest answer expires, its size and its key."""
        if self._oldest is None:
            entry = self._table.get(_place(self._first))
            assert entry is not None, "the order of answers has no holes"
            at, bytes_, name = entry.decode().split(" ")
            self._oldest = int(at), int(bytes_), name
        return self._oldest

    def _remove(self, expires_at: int, size: int, key: str) -> None:
        """Remove the oldest answer, which is this one."""
        known = self.get(key)
        # The same key may have been kept again since, or lead again: then it is younger than this entry.
        if known is not None and not known["leader"] and known["expires_at"] == expires_at:
            self._table.remove(key)
        self._table.remove(_place(self._first))
        self._first += 1
        self.size -= size
        self._oldest = None

    def drop(self, key: str) -> None:
        """Forget what is known."""
        self._table.remove(key)

    def fields(self) -> dict[str, int]:
        """What the Ledger record says of the cache."""
        return {"answers_first": self._first, "answers_next": self._next, "answers_bytes": self.size}
