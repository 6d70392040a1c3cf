"""The memory engine: the whole topology in one process, on the same decisions, without Java or a broker.

A double, named as one: it carries decisions out over lists and dictionaries and holds no policy. Its topics are lists
of (key, bytes) in the wire format, so a replay here can be compared byte for byte with what Flink wrote.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from schemas import topics
from schemas.wire import Codec
from streams import admission
from streams.emission import Emit
from streams.state import Tenant


class MemoryCell:
    """One value."""

    def __init__(self) -> None:
        self._value: bytes | None = None

    def get(self) -> bytes | None:
        """The bytes, or None."""
        return self._value

    def put(self, value: bytes) -> None:
        """Replace them."""
        self._value = value


class MemoryTable:
    """Values by key."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""
        self.values[key] = value

    def remove(self, key: str) -> None:
        """Forget the key."""
        self.values.pop(key, None)


class MemoryStores:
    """What is kept for one tenant."""

    def __init__(self) -> None:
        self.policy, self.ledger, self.agenda = MemoryCell(), MemoryCell(), MemoryCell()
        self.requests, self.cached = MemoryTable(), MemoryTable()
        self.deferred, self.pages = MemoryTable(), MemoryTable()


class MemoryEngine:
    """Admission over in-memory state. `topics` holds what was written, in order."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.codec = codec or Codec.offline()
        self.stores: defaultdict[str, MemoryStores] = defaultdict(MemoryStores)
        self.topics: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._tenants: dict[str, Tenant] = {}

    def tenant(self, name: str) -> Tenant:
        """The tenant's state."""
        if name not in self._tenants:
            self._tenants[name] = Tenant(name, self.stores[name])
        return self._tenants[name]

    def restart(self) -> None:
        """Forget everything that is not in the stores, as a process that dies does."""
        self._tenants.clear()

    def append(self, value: bytes, now_ms: int) -> list[Emit]:
        """Feed one journal record as the broker stamped it; returns what was written."""
        kind, record = self.codec.decode(value)
        return self.step(kind, record, now_ms)

    def step(self, kind: str, record: Mapping[str, Any], now_ms: int) -> list[Emit]:
        """Feed one decoded journal record. A tick moves every tenant's clock."""
        if kind == "Tick":
            return self.advance(now_ms)
        tenant = self.tenant(record["tenant"])
        emits = admission.step(tenant, kind, record, now_ms)
        tenant.flush()
        return self._write(emits)

    def advance(self, now_ms: int) -> list[Emit]:
        """Let time pass for everyone."""
        out: list[Emit] = []
        for name in sorted(self.stores):
            tenant = self.tenant(name)
            out += admission.advance(tenant, now_ms)
            tenant.flush()
        return self._write(out)

    def _write(self, emits: list[Emit]) -> list[Emit]:
        for emit in emits:
            self.topics[emit.topic].append((emit.key, self.codec.encode(emit.schema, emit.record)))
        return emits

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Records of a topic, decoded, in the order written."""
        return [self.codec.decode(value)[1] for _, value in self.topics[topic]]

    def read_work(self) -> list[dict[str, Any]]:
        """Records of all work topics, in the order written to each."""
        prefix = topics.work("", "").name.split(".")[0] + "."
        return [r for name in sorted(self.topics) if name.startswith(prefix) for r in self.read(name)]
