"""The memory engine: the whole topology in one process, on the same decisions, without Java or a broker.

A double, named as one: it carries decisions out over lists and dictionaries and holds no policy. Its topics are lists
of (key, bytes) in the wire format, so a replay here can be compared byte for byte with what Flink wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from schemas import topics
from schemas.wire import Codec
from streams import admission
from streams.emission import EXACTLY_ONCE, Emit
from streams.state import Tenant

# Told of every record as it is written: tenant decided for, topic, key, value.
OnWrite = Callable[[str, str, str, bytes], None]
CELL: Final = ""


class Undo:
    """What to put back, oldest first, so that a checkpoint costs what changed since. Kept once there is one."""

    def __init__(self) -> None:
        self.active = False
        self._dropped = 0
        self._entries: list[tuple[dict[str, bytes], str, bytes | None]] = []

    def note(self, values: dict[str, bytes], key: str) -> None:
        """`values[key]` is about to change."""
        if self.active:
            self._entries.append((values, key, values.get(key)))

    def mark(self) -> int:
        """The present, to come back to."""
        self.active = True
        return self._dropped + len(self._entries)

    def back(self, mark: int) -> None:
        """Put everything back as it was at `mark`."""
        keep = mark - self._dropped
        assert 0 <= keep <= len(self._entries), "the mark was forgotten"
        for values, key, old in reversed(self._entries[keep:]):
            if old is None:
                values.pop(key, None)
            else:
                values[key] = old
        del self._entries[keep:]

    def forget(self, mark: int) -> None:
        """Nobody will come back to a time before `mark`."""
        del self._entries[: mark - self._dropped]
        self._dropped = mark


class MemoryTable:
    """Values by key."""

    def __init__(self, undo: Undo | None = None) -> None:
        self.values: dict[str, bytes] = {}
        self._undo = undo or Undo()

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""
        self._undo.note(self.values, key)
        self.values[key] = value

    def remove(self, key: str) -> None:
        """Forget the key."""
        self._undo.note(self.values, key)
        self.values.pop(key, None)


class MemoryCell:
    """One value."""

    def __init__(self, undo: Undo | None = None) -> None:
        self._table = MemoryTable(undo)

    def get(self) -> bytes | None:
        """The bytes, or None."""
        return self._table.get(CELL)

    def put(self, value: bytes) -> None:
        """Replace them."""
        self._table.put(CELL, value)


class MemoryStores:
    """What is kept for one tenant."""

    def __init__(self, undo: Undo | None = None) -> None:
        self.policy, self.ledger, self.agenda = MemoryCell(undo), MemoryCell(undo), MemoryCell(undo)
        self.requests, self.cached = MemoryTable(undo), MemoryTable(undo)
        self.deferred, self.pages = MemoryTable(undo), MemoryTable(undo)


class Checkpoint(NamedTuple):
    """A moment to come back to: a place in the undo log, and how long each exactly-once topic was."""

    undo: int
    rows: Mapping[str, int]


class MemoryEngine:
    """Admission over in-memory state. `topics` holds what was written, in order.

    With several `partitions`, time is what all of them have reached, as Flink's watermark is; with one, every tick
    moves it. `on_write` is told of each record.
    """

    def __init__(self, codec: Codec | None = None, partitions: int = 1, on_write: OnWrite | None = None) -> None:
        self.codec = codec or Codec.offline()
        self._undo = Undo()
        self.stores: defaultdict[str, MemoryStores] = defaultdict(lambda: MemoryStores(self._undo))
        self.topics: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._tenants: dict[str, Tenant] = {}
        self._partitions = partitions
        self._clocks: dict[int, int] = {}
        self._on_write = on_write

    def tenant(self, name: str) -> Tenant:
        """The tenant's state."""
        if name not in self._tenants:
            self._tenants[name] = Tenant(name, self.stores[name])
        return self._tenants[name]

    def restart(self) -> None:
        """Forget everything that is not in the stores, as a process that dies does."""
        self._tenants.clear()
        self._clocks.clear()

    def checkpoint(self) -> Checkpoint:
        """The present, for `restore`."""
        return Checkpoint(self._undo.mark(), {name: len(self.topics[name]) for name in EXACTLY_ONCE})

    def restore(self, checkpoint: Checkpoint) -> None:
        """Die and come back as of `checkpoint`: rows written since were never committed, all else stays written."""
        self._undo.back(checkpoint.undo)
        for name, length in checkpoint.rows.items():
            del self.topics[name][length:]
        self.restart()

    def forget(self, checkpoint: Checkpoint) -> None:
        """Nobody will restore what is older than `checkpoint`."""
        self._undo.forget(checkpoint.undo)

    def append(self, value: bytes, now_ms: int) -> list[Emit]:
        """Feed one journal record as the broker stamped it; returns what was written."""
        kind, record = self.codec.decode(value)
        return self.step(kind, record, now_ms)

    def step(self, kind: str, record: Mapping[str, Any], now_ms: int) -> list[Emit]:
        """Feed one decoded journal record. A tick moves every tenant's clock, once each partition has come so far."""
        if kind == "Tick":
            self._clocks[record["partition"] % self._partitions] = now_ms
            return self.advance(min(self._clocks.values())) if len(self._clocks) == self._partitions else []
        tenant = self.tenant(record["tenant"])
        emits = admission.step(tenant, kind, record, now_ms)
        tenant.flush()
        self._write(tenant.name, emits)
        return emits

    def advance(self, now_ms: int) -> list[Emit]:
        """Let time pass for everyone."""
        out: list[Emit] = []
        for name in sorted(self.stores):
            tenant = self.tenant(name)
            if tenant.agenda.due(now_ms) is None:
                continue  # no timer of this tenant would fire
            emits = admission.advance(tenant, now_ms)
            tenant.flush()
            self._write(name, emits)
            out += emits
        return out

    def _write(self, tenant: str, emits: Iterable[Emit]) -> None:
        for topic, key, schema, record in emits:
            value = self.codec.encode(schema, record)
            self.topics[topic].append((key, value))
            if self._on_write is not None:
                self._on_write(tenant, topic, key, value)

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Records of a topic, decoded, in the order written."""
        return [self.codec.decode(value)[1] for _, value in self.topics[topic]]

    def read_work(self) -> list[dict[str, Any]]:
        """Records of all work topics, in the order written to each."""
        prefix = topics.work("", "").name.split(".")[0] + "."
        return [r for name in sorted(self.topics) if name.startswith(prefix) for r in self.read(name)]
