"""The ledger oracle: an auditor that imports nothing from streams/.

It computes what must be so from the journal (as the broker stamped it) and from the topics, and returns every
violation it finds as a sentence. At-least-once topics may hold a record twice; they may never hold two that differ.
An Auditor is shown what happens step by step; `audit` shows it what was collected, in the order of time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.oracle.books import Books
from tests.oracle.budgets import budgets
from tests.oracle.question import Record, identity
from tests.oracle.walk import Walk

Written = list[tuple[str, str, Record]]


@dataclass
class Evidence:
    """What was written. `journal` holds (schema name, record, broker time in ms), in the order of each partition."""

    journal: list[tuple[str, Record, int]]
    usage: list[Record]
    responses: list[Record]
    waste: list[Record]
    audit: list[Record] = field(default_factory=list)
    batch_results: list[Record] = field(default_factory=list)
    replies: list[Record] = field(default_factory=list)
    work: list[Record] = field(default_factory=list)
    # Of topics of one tenant's answers, with the topic's name.
    answers: list[tuple[str, Record]] = field(default_factory=list)

    def of(self, name: str) -> list[tuple[Record, int]]:
        """(record, time) of one kind in the journal."""
        return [(r, at) for kind, r, at in self.journal if kind == name]


class Auditor:
    """Watches every step of admission. `found` holds the violations so far."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.books = Books(self.found)
        self.walk = Walk(self.found)

    def step(self, kind: str, record: Record, at_ms: int, written: Written) -> None:
        """One journal record, and (topic, schema name, record) of what was written when it was decided, in order."""
        self.books.take(kind, record)
        if kind == "Policy":
            # What was due before it was decided under the policy before; what was due that very moment, under either.
            now = next((n for n, entry in enumerate(written) if decided_ms(entry) >= at_ms), len(written))
            self.wrote(written[:now])
            written = written[now:]
            self.walk.strict = at_ms % 1000 != 0
        self.walk.take(kind, record, at_ms)
        self.wrote(written)
        self.walk.rest(record["tenant"], at_ms)
        self.walk.strict = True

    def passed(self, at_ms: int, written: Written) -> None:
        """Time went by for everyone, up to `at_ms`; 0 if it is not known how far."""
        self.wrote(written)
        if at_ms:
            self.walk.passed(at_ms)

    def wrote(self, written: Written) -> None:
        """What was written, in order."""
        for topic, schema, record in written:
            self.books.wrote(topic, schema, record)
            if schema in ("Usage", "Work", "Audit", "Control", "Credit"):
                self.walk.wrote(schema, record)

    def finish(self, *, finished: bool = True) -> list[str]:
        """Every violation. `finished`: nothing is in flight any more, so that what is missing is lost."""
        self.books.finish(finished)
        if finished:
            self.walk.finish()
        return self.found


def decided_ms(entry: tuple[str, str, Record]) -> int:
    """When a record was decided, as it says itself; 0 where it does not."""
    _, schema, record = entry
    return int(record.get({"Usage": "completed_at", "Work": "admitted_at"}.get(schema, "at"), 0))


def audit(e: Evidence, *, finished: bool = True) -> list[str]:
    """Every violation in what was collected from a running system."""
    auditor = Auditor()
    books = auditor.books
    for kind, record, _ in e.journal:
        books.take(kind, record)
    for topic, schema, records in (
        ("usage", "Usage", e.usage), ("responses", "Response", e.responses), ("waste", "Waste", e.waste),
        ("audit", "Audit", e.audit), ("batch_results", "BatchResult", e.batch_results), ("", "Reply", e.replies),
    ):  # fmt: skip
        for record in records:
            books.wrote(topic, schema, record)
    for topic, record in e.answers:
        books.wrote(topic, "Response", record)
    if e.work:
        _walk_by_time(auditor.walk, e)
    else:
        auditor.found += budgets(e.journal, e.usage)
    books.finish(finished, replies=bool(e.replies), results=bool(e.batch_results), answers=bool(e.answers))
    return auditor.found


def _walk_by_time(walk: Walk, e: Evidence) -> None:
    # Within a millisecond the order of decisions is not known from outside: what was settled is taken to come first,
    # and a refusal is judged only where a single record was decided. Work comes before the row of its own request,
    # though: one that was sent and ended within the millisecond was counted like any other. Rows are in the order in
    # which requests ended, so whatever is held in this order was held together in the true one.
    walk.controls = False
    moments: defaultdict[tuple[int, str], list[tuple[int, str, Record]]] = defaultdict(list)
    for kind, record, at in e.journal:
        if kind != "Tick":
            moments[at, record["tenant"]].append((0, kind, record))
    for found in e.audit:
        moments[found["at"], found["tenant"]].append((1, "Audit", found))
    for row in e.usage:
        moments[row["completed_at"], row["tenant"]].append((2, "Usage", row))
    for work in _first_of_each(e.work):
        moments[work["admitted_at"], work["tenant"]].append((3, "Work", work))
    for (at, tenant), events in sorted(moments.items(), key=lambda item: item[0]):
        kinds = Counter(rank for rank, _, _ in events)
        # Work of one topic is in its order; of several, it is not known what went first.
        lanes = {(work["pool"], work["lane"]) for rank, _, work in events if rank == 3}
        walk.sharp = kinds[0] <= 1 and len(lanes) <= 1 and not kinds[3] * kinds[2] and at % 1000 != 0
        walk.strict = kinds[0] == 1 or all(kind != "Policy" for _, kind, _ in events)
        for rank, kind, record in _in_order(events):
            if rank == 0:
                walk.take(kind, record, at)
            else:
                walk.wrote(kind, record)
        walk.rest(tenant, at)


def _in_order(events: list[tuple[int, str, Record]]) -> list[tuple[int, str, Record]]:
    """By rank, but each row after the work of its request."""
    place = {identity(r): n for n, (_, kind, r) in enumerate(events) if kind == "Usage"}
    later = len(events)

    def order(event: tuple[int, str, Record]) -> tuple[int, int, int]:
        rank, kind, record = event
        if kind == "Usage":
            return 2, place[identity(record)], 1
        if kind == "Work":
            return 2, place.get(identity(record), later), 0
        return rank, 0, 0

    return sorted(events, key=order)


def _first_of_each(works: Iterable[Record]) -> list[Record]:
    seen: dict[tuple[str, str, int, str], Record] = {}
    for work in works:
        seen.setdefault((*identity(work), work["step"], work["pool"]), work)
    return list(seen.values())
