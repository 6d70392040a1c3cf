"""The state of one tenant as admission sees it: typed records over bytes that an engine keeps.

Every change goes through to the engine at once or at `flush`; what is read is remembered, because no one else writes
it. An engine that restores from a checkpoint makes new Tenants.
"""

from __future__ import annotations

from typing import Final, cast

from schemas.records import Done, Ledger, Open
from schemas.wire import StateCodec
from streams.affinity import Loads
from streams.agenda import Agenda
from streams.answers import Answers
from streams.deferral import Deferral
from streams.ledger import PREPAID, Account
from streams.policy import Policy
from streams.sequence import Sequences
from streams.stores import Stores

CODEC: Final = StateCodec()
OPEN: Final = b"o"
DONE: Final = b"d"
# Open requests kept at hand per tenant, up to this many bytes of body each: at most 8 MiB.
RECENT_REQUESTS: Final = 2_048
RECENT_BYTES: Final = 4_096


class Tenant:
    """One tenant's state, decoded."""

    def __init__(self, name: str, stores: Stores) -> None:
        self.name = name
        self._stores = stores
        policy = stores.policy.get()
        self.policy: Policy | None = Policy(policy.decode()) if policy else None
        self.agenda = Agenda(stores, CODEC)
        self._recent: dict[str, Open] = {}
        data = stores.ledger.get()
        ledger = cast(Ledger, CODEC.decode("Ledger", data)) if data else None
        self.deferral = Deferral(stores.deferred, ledger)
        self.sequences = Sequences(stores.deferred, ledger)
        self.answers = Answers(stores.cached, CODEC, ledger)
        entries = ledger["accounts"] if ledger else []
        self.accounts = {a["limit"]: Account(a["window"], a["spent"], a["held"]) for a in entries}
        self.debt = ledger["debt"] if ledger else 0
        self.wake = ledger["wake"] if ledger else 0
        self.credited_micros = ledger["credited_micros"] if ledger else 0
        self.open_circuits = {c["pool"]: c["until"] for c in (ledger["open_circuits"] if ledger else ())}
        self.loads = Loads(ledger)
        self._written = self._signature()

    # policy

    def adopt(self, text: str) -> None:
        """Take a new policy; accounts of limits that are gone are closed, but not while something is held in them."""
        self.policy = Policy(text)
        self._stores.policy.put(text.encode())
        kept = {PREPAID} | {limit.id for limit in self.policy.limits}
        self.accounts = {k: v for k, v in self.accounts.items() if k in kept or v.held}

    # requests

    def find(self, request_id: str) -> tuple[Open | None, Done | None]:
        """What is known of a request: it is open, or done, or (None, None) was never seen.

        A change of what is returned lasts only if it is put back.
        """
        recent = self._recent.pop(request_id, None)
        if recent is not None:
            return recent, None
        data = self._stores.requests.get(request_id)
        if data is None:
            return None, None
        if data[:1] == OPEN:
            return cast(Open, CODEC.decode("Open", data[1:])), None
        return None, cast(Done, CODEC.decode("Done", data[1:]))

    def open(self, request_id: str) -> Open | None:
        """The open request, or None."""
        return self.find(request_id)[0]

    def put_open(self, request: Open) -> None:
        """Keep an open request, which its holder changes no more without putting it again."""
        request_id = request["request_id"]
        self._stores.requests.put(request_id, OPEN + CODEC.encode("Open", request))
        self._recent.pop(request_id, None)
        if len(request["body"]) <= RECENT_BYTES:
            # Most requests are asked for again within a second, by their completion.
            if len(self._recent) >= RECENT_REQUESTS:
                del self._recent[next(iter(self._recent))]
            self._recent[request_id] = request

    def close(self, request_id: str, done: Done) -> None:
        """The request is open no more; remember how it ended."""
        self._recent.pop(request_id, None)
        self._stores.requests.put(request_id, DONE + CODEC.encode("Done", done))

    def forget_reply(self, request_id: str, instead: bytes) -> bool:
        """Keep another reply of a finished request, where one is kept; whether that is a change."""
        _, done = self.find(request_id)
        if done is None or done["reply"] in (b"", instead):
            return False
        self.close(request_id, {**done, "reply": instead})
        return True

    def first_mention(self, what: str, now_ms: int) -> bool:
        """Whether `what` (an attempt's waste, a credit) was not booked yet; from now on it was."""
        key = f"\0{what}"
        if self._stores.requests.get(key) is not None:
            return False
        self._stores.requests.put(
            key, DONE + CODEC.encode("Done", {"status": "", "at": now_ms, "attempt": what, "reply": b""})
        )
        return True

    # the ledger's record

    def _ledger(self) -> dict[str, object]:
        accounts = [
            {"limit": k, "window": v.window, "spent": v.spent, "held": v.held} for k, v in self.accounts.items()
        ]
        return {
            "accounts": accounts,
            "debt": self.debt,
            "wake": self.wake,
            "credited_micros": self.credited_micros,
            "open_circuits": [{"pool": p, "until": at} for p, at in sorted(self.open_circuits.items())],
            **self.loads.fields(),
            **self.deferral.fields(),
            **self.answers.fields(),
            **self.sequences.fields(),
        }

    def _signature(self) -> tuple[object, ...]:
        """Differs when the ledger's record does. Mappings are never changed in place."""
        changes = (self.loads.changes, self.deferral.changes, self.answers.changes, self.sequences.changes)
        counters = (self.debt, self.wake, self.credited_micros, *changes)
        return self.accounts, self.open_circuits, counters

    def flush(self) -> list[int]:
        """Write what changed; returns moments added since the last flush, for which an engine sets timers."""
        signature = self._signature()
        if signature != self._written:
            self._stores.ledger.put(CODEC.encode("Ledger", self._ledger()))
            self._written = signature
        return self.agenda.flush()
