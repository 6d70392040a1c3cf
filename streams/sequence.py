"""Requests of one order key run one after the other: the next is decided when the one before it has ended. Pure.

Those of a key form a chain. The first is decided like any other request; each other is `queued`, holds nothing, and
knows who is ahead of it (`behind`) and who comes next (`next`). Whoever ends leaves the chain, wherever it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from schemas.records import Ledger, Open, Request
from streams.stores import Table
from streams.verdict import Verdict, refusal

if TYPE_CHECKING:
    from streams.state import Tenant

# Requests that may wait, of one key and of one tenant: what comes faster than it is answered must end somewhere.
MAX_OF_KEY: Final = 1_000
MAX_QUEUED: Final = 20_000
MAX_QUEUED_BYTES: Final = 64 * 1024 * 1024
# Requests whose turn comes that are decided at one moment: more would hold up the records behind.
TURNS_AT_ONCE: Final = 100


class Sequences:
    """The chains of one tenant. `count` and `size` (bytes) cover what is queued; `changes` counts every change."""

    def __init__(self, table: Table, ledger: Ledger | None) -> None:
        self._table = table
        self.count = ledger["queued_count"] if ledger else 0
        self.size = ledger["queued_bytes"] if ledger else 0
        self.changes = 0
        # Whose turn has come in this step.
        self.turns: list[str] = []

    def end(self, key: str) -> tuple[int, str]:
        """How many requests the chain of a key has, and the id of the last; (0, "") if there is none."""
        data = self._table.get(_place(key))
        if data is None:
            return 0, ""
        length, _, last = data.decode().partition(" ")
        return int(length), last

    def put(self, key: str, length: int, last: str) -> None:
        """Note the end of a chain."""
        if length:
            self._table.put(_place(key), f"{length} {last}".encode())
        else:
            self._table.remove(_place(key))

    def grow(self, requests: int, size: int) -> None:
        """So many more requests and bytes are queued; negative for fewer."""
        self.count += requests
        self.size += size
        self.changes += 1

    def fields(self) -> dict[str, int]:
        """What the Ledger record says of the chains."""
        return {"queued_count": self.count, "queued_bytes": self.size}


def _place(key: str) -> str:
    # Beside the queues of batches, whose places begin with a digit.
    return f"order {key}"


def begin(tenant: Tenant, o: Open, key: str) -> None:
    """A request whose key has no other is the first of its chain."""
    o["order_key"] = key
    tenant.sequences.put(key, 1, o["request_id"])


def queue(tenant: Tenant, o: Open, key: str) -> Verdict | None:
    """Put a request at the end of its chain, which is not empty; the refusal if too many wait."""
    chains = tenant.sequences
    length, last = chains.end(key)
    if length > MAX_OF_KEY or chains.count >= MAX_QUEUED or chains.size + len(o["body"]) > MAX_QUEUED_BYTES:
        return refusal(429, "Too many requests wait for those before them.", "order_queue_full", "order_key")
    ahead = tenant.open(last)
    assert ahead is not None, "who ends leaves its chain"
    ahead["next"] = o["request_id"]
    tenant.put_open(ahead)
    o["phase"], o["order_key"], o["behind"] = "queued", key, last
    chains.put(key, length + 1, o["request_id"])
    chains.grow(1, len(o["body"]))
    tenant.put_open(o)
    return None


def take(tenant: Tenant, o: Open) -> None:
    """A request is queued no more: its turn has come, or it has ended."""
    tenant.sequences.grow(-1, -len(o["body"]))
    o["phase"] = "new"


def leave(tenant: Tenant, o: Open) -> None:
    """The request has ended: those around it close up, and if it was the first, it is the next one's turn."""
    key, ahead, after = o["order_key"], tenant.open(o["behind"]), tenant.open(o["next"])
    length, last = tenant.sequences.end(key)
    if ahead is not None:
        ahead["next"] = o["next"]
        tenant.put_open(ahead)
    if after is not None:
        after["behind"] = o["behind"]
        tenant.put_open(after)
        if ahead is None:
            tenant.sequences.turns.append(after["request_id"])
    tenant.sequences.put(key, length - 1, o["behind"] if last == o["request_id"] else last)


def request_of(tenant: str, o: Open) -> Request:
    """The request as it came, to be decided now. Only producers name an order key, so nobody waits for chunks."""
    return {
        "tenant": tenant,
        "request_id": o["request_id"],
        "key_id": o["key_id"],
        "endpoint": o["endpoint"],
        "model": o["requested_model"],
        "body": o["body"],
        "lane": o["lane"],
        "received_at": o["received_at"],
        "deadline": o["deadline"],
        "reply_to": "",
        "stream": False,
        "batch_id": o["batch_id"],
        "line": o["line"],
        "custom_id": o["custom_id"],
        "cache": "default",
        "repeatable": o["repeatable"],
        "correlation_id": o["correlation_id"],
        "source": "intake",
        "order_key": o["order_key"],
    }
