"""The state of one tenant as admission sees it: typed records over bytes that an engine keeps.

Every change goes through to the engine at once or at `flush`; what is read is remembered, because no one else writes
it. An engine that restores from a checkpoint makes new Tenants.
"""

from __future__ import annotations

from typing import Final, Protocol, cast

from schemas.config import PolicyDocument
from schemas.records import Cached, Done, Open
from schemas.wire import StateCodec
from streams.ledger import Account
from streams.policy import Policy

CODEC: Final = StateCodec()
PAGE_IDS: Final = 64
SECOND_MS: Final = 1_000
OPEN: Final = b"o"
DONE: Final = b"d"
# Encoded open requests kept at hand per tenant: at most 8 MiB.
RECENT_REQUESTS: Final = 2_048
RECENT_BYTES: Final = 4_096


def moment_of(due_ms: int) -> int:
    """The moment of the agenda at which something due at `due_ms` is looked at: the next full second."""
    return -(-due_ms // SECOND_MS) * SECOND_MS


class Cell(Protocol):
    """One value."""

    def get(self) -> bytes | None:
        """The bytes, or None."""

    def put(self, value: bytes) -> None:
        """Replace them."""


class Table(Protocol):
    """Values by key."""

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""

    def remove(self, key: str) -> None:
        """Forget the key; harmless if it is not there."""


class Stores(Protocol):
    """What an engine keeps for one tenant."""

    @property
    def policy(self) -> Cell:
        """The JSON of the Policy record."""

    @property
    def ledger(self) -> Cell:
        """Ledger."""

    @property
    def agenda(self) -> Cell:
        """Agenda."""

    @property
    def requests(self) -> Table:
        """Open or Done by request id; the first byte tells which."""

    @property
    def cached(self) -> Table:
        """Cached by cache key."""

    @property
    def deferred(self) -> Table:
        """Request ids by place in the queue."""

    @property
    def pages(self) -> Table:
        """Request ids of the agenda, by moment and page."""


class Tenant:
    """One tenant's state, decoded."""

    def __init__(self, name: str, stores: Stores) -> None:
        self.name = name
        self._stores = stores
        policy = stores.policy.get()
        self.policy: Policy | None = Policy(policy.decode()) if policy else None
        self._load_ledger(stores.ledger.get())
        agenda = stores.agenda.get()
        self._moments: dict[int, int] = (
            {m["due"]: m["pages"] for m in CODEC.decode("Agenda", agenda)["moments"]} if agenda else {}
        )
        self._earliest = min(self._moments, default=None)
        self._page: dict[int, list[str]] = {}
        self._recent: dict[str, bytes] = {}
        self._ledger_changed = self._agenda_changed = False
        self.new_moments: list[int] = []

    def _load_ledger(self, data: bytes | None) -> None:
        ledger = CODEC.decode("Ledger", data) if data else None
        self._accounts = (
            {a["limit"]: Account(a["window"], a["spent"], a["held"]) for a in ledger["accounts"]} if ledger else {}
        )
        self.debt: int = ledger["debt"] if ledger else 0
        self.first_deferred: int = ledger["first_deferred"] if ledger else 0
        self.next_deferred: int = ledger["next_deferred"] if ledger else 0
        self.deferred_count: int = ledger["deferred_count"] if ledger else 0
        self.deferred_bytes: int = ledger["deferred_bytes"] if ledger else 0
        self._wake: int = ledger["wake"] if ledger else 0

    # policy and ledger

    def adopt(self, text: str) -> None:
        """Take a new policy. Accounts of limits that are gone are closed, but not while something is held in them."""
        self.policy = Policy(text)
        self._stores.policy.put(text.encode())
        document: PolicyDocument = self.policy.document
        kept = {limit.id for limit in document.limits}
        self.accounts = {k: v for k, v in self._accounts.items() if k in kept or v.held}

    @property
    def accounts(self) -> dict[str, Account]:
        """The ledger's accounts; assign a new mapping to change them."""
        return self._accounts

    @accounts.setter
    def accounts(self, value: dict[str, Account]) -> None:
        self._accounts = value
        self._ledger_changed = True

    @property
    def wake(self) -> int:
        """When the queue of deferred requests is looked at next, ms; 0 for never."""
        return self._wake

    @wake.setter
    def wake(self, value: int) -> None:
        self._wake = value
        self._ledger_changed = True

    def owe(self, tokens: int) -> None:
        """Record debt: tokens spent beyond a bound."""
        self.debt += tokens
        self._ledger_changed = True

    # requests

    def find(self, request_id: str) -> tuple[Open | None, Done | None]:
        """What is known of a request: it is open, or done, or (None, None) was never seen."""
        data = self._recent.get(request_id) or self._stores.requests.get(request_id)
        if data is None:
            return None, None
        if data[:1] == OPEN:
            return cast(Open, CODEC.decode("Open", data[1:])), None
        return None, cast(Done, CODEC.decode("Done", data[1:]))

    def open(self, request_id: str) -> Open | None:
        """The open request, or None."""
        return self.find(request_id)[0]

    def put_open(self, request: Open) -> None:
        """Keep an open request."""
        data = OPEN + CODEC.encode("Open", request)
        self._stores.requests.put(request["request_id"], data)
        if len(data) <= RECENT_BYTES:
            # Most requests are asked for again within a second, by their completion.
            if len(self._recent) >= RECENT_REQUESTS:
                del self._recent[next(iter(self._recent))]
            self._recent[request["request_id"]] = data
        else:
            self._recent.pop(request["request_id"], None)

    def close(self, request_id: str, done: Done) -> None:
        """The request is open no more; remember how it ended."""
        self._recent.pop(request_id, None)
        self._stores.requests.put(request_id, DONE + CODEC.encode("Done", done))

    def first_mention(self, attempt: str, now_ms: int) -> bool:
        """Whether an attempt's waste was not booked yet; from now on it was. A worker may tell of it twice."""
        key = f"\0attempt {attempt}"
        if self._stores.requests.get(key) is not None:
            return False
        self._stores.requests.put(
            key, DONE + CODEC.encode("Done", {"status": "", "at": now_ms, "attempt": attempt, "reply": b""})
        )
        return True

    def cached(self, key: str) -> Cached | None:
        """What is known of an answer, or None."""
        data = self._stores.cached.get(key)
        return cast(Cached, CODEC.decode("Cached", data)) if data is not None else None

    def put_cached(self, key: str, entry: Cached) -> None:
        """Remember a leader or an answer."""
        self._stores.cached.put(key, CODEC.encode("Cached", entry))

    def drop_cached(self, key: str) -> None:
        """Forget it."""
        self._stores.cached.remove(key)

    # deferred requests: a queue of ids

    def defer(self, request_id: str, size: int) -> None:
        """Put a request at the end of the queue."""
        self._stores.deferred.put(str(self.next_deferred), request_id.encode())
        self.next_deferred += 1
        self.deferred_count += 1
        self.deferred_bytes += size
        self._ledger_changed = True

    def oldest_deferred(self) -> str:
        """Id at the head of the queue. Call only while deferred_count > 0."""
        data = self._stores.deferred.get(str(self.first_deferred))
        assert data is not None, "the queue has no holes"
        return data.decode()

    def undefer(self) -> None:
        """Remove the head of the queue."""
        self._stores.deferred.remove(str(self.first_deferred))
        self.first_deferred += 1
        self.deferred_count -= 1
        self._ledger_changed = True

    def release_bytes(self, size: int) -> None:
        """A deferred request of this size left the queue or ended in it."""
        self.deferred_bytes -= size
        self._ledger_changed = True

    # agenda: ids by the second in which something is due, in pages, so that adding one writes little

    def remind(self, request_id: str, due_ms: int) -> None:
        """Have `request_id` looked at once `due_ms` (rounded up to a second) has come."""
        moment = moment_of(due_ms)
        pages = self._moments.get(moment, 0)
        ids = self._last_page(moment, pages)
        if pages == 0 or len(ids) >= PAGE_IDS:
            if pages == 0:
                self.new_moments.append(moment)
                self._earliest = moment if self._earliest is None else min(self._earliest, moment)
            pages += 1
            self._moments[moment] = pages
            self._agenda_changed = True
            ids = []
        ids.append(request_id)
        self._page[moment] = ids
        self._stores.pages.put(f"{moment}/{pages}", "\n".join(ids).encode())

    def _last_page(self, moment: int, pages: int) -> list[str]:
        if pages and moment not in self._page:
            data = self._stores.pages.get(f"{moment}/{pages}")
            self._page[moment] = data.decode().split("\n") if data else []
        return self._page.get(moment, [])

    def next_moment(self, now_ms: int) -> int | None:
        """The earliest moment due by `now_ms`, or None."""
        return self._earliest if self._earliest is not None and self._earliest <= now_ms else None

    def take_moment(self, moment: int) -> list[str]:
        """Ids due at a moment, in the order they were added; the moment is removed."""
        ids: list[str] = []
        for page in range(1, self._moments.pop(moment) + 1):
            data = self._stores.pages.get(f"{moment}/{page}")
            ids += data.decode().split("\n") if data else []
            self._stores.pages.remove(f"{moment}/{page}")
        self._page.pop(moment, None)
        self._earliest = min(self._moments, default=None)
        self._agenda_changed = True
        return ids

    def flush(self) -> list[int]:
        """Write what changed; returns moments added since the last flush, for which an engine sets timers."""
        if self._ledger_changed:
            accounts = [
                {"limit": k, "window": v.window, "spent": v.spent, "held": v.held} for k, v in self._accounts.items()
            ]
            ledger = {
                "accounts": accounts,
                "debt": self.debt,
                "first_deferred": self.first_deferred,
                "next_deferred": self.next_deferred,
                "deferred_count": self.deferred_count,
                "deferred_bytes": self.deferred_bytes,
                "wake": self._wake,
            }
            self._stores.ledger.put(CODEC.encode("Ledger", ledger))
            self._ledger_changed = False
        if self._agenda_changed:
            moments = [{"due": due, "pages": self._moments[due]} for due in sorted(self._moments)]
            self._stores.agenda.put(CODEC.encode("Agenda", {"moments": moments}))
            self._agenda_changed = False
        new, self.new_moments = self.new_moments, []
        return new
