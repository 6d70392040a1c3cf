"""The books: every request has one outcome, every token one place, and every answer one payer."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from tests.oracle.question import Record, fingerprint, identity

Identity = tuple[str, str]
SHARED = ("hit", "follower")
GONE = 410
# What the name of a topic of one tenant's answers begins with.
ANSWERS = "responses."


def shadow(i: Identity) -> bool:
    """Whether this is the copy of a request that a shadow model answers."""
    return i[1].endswith("~shadow")


class Row:
    """What is kept of a usage row."""

    __slots__ = ("attempt", "batch", "cache", "line", "model", "status")

    def __init__(self, u: Record) -> None:
        self.status, self.cache, self.model = u["status"], u["cache"], u["model"]
        self.attempt, self.batch, self.line = u["attempt"], u["batch_id"], u["line"]


class Books:
    """Reads the journal and the topics in any order; most is judged at the end."""

    def __init__(self, found: list[str]) -> None:
        self.found = found
        self.asked: dict[Identity, int] = {}
        self.callers: dict[Identity, set[str]] = {}
        self.first_caller: dict[Identity, str] = {}
        self.left: set[Identity] = set()
        self.enquired: Counter[Identity] = Counter()
        self.spent: dict[str, tuple[Identity, int, int]] = {}
        self.booked: Counter[str] = Counter()
        self.rows: dict[Identity, Row] = {}
        self.responses: dict[Identity, tuple[str, int]] = {}
        self.told: defaultdict[Identity, set[tuple[str, int]]] = defaultdict(set)
        self.reached: set[tuple[Identity, str]] = set()
        self.results: defaultdict[tuple[str, int], set[int]] = defaultdict(set)
        self.shown: dict[Identity, int] = {}
        self.blocks: set[Identity] = set()
        self.audits: set[tuple[str, ...]] = set()
        self.masked: set[Identity] = set()
        # Requests that were erased, those of them that had ended by then, and answers paid for since, by tenant.
        self.erased: set[Identity] = set()
        self.gone: set[Identity] = set()
        self.paid_since: dict[str, set[tuple[str, Any]]] = {}
        # What each tenant used in each minute: requests, input and output tokens, cost.
        self.minutes: defaultdict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0])

    def take(self, kind: str, r: Record) -> None:
        """A record of the journal."""
        if kind == "Request":
            self.asked.setdefault(identity(r), fingerprint(r))
            if r["reply_to"]:
                self.callers.setdefault(identity(r), set()).add(r["reply_to"])
                if identity(r) not in self.rows:
                    self.first_caller.setdefault(identity(r), r["reply_to"])
        elif kind == "Enquiry":
            self.enquired[identity(r)] += 1
            self.callers.setdefault(identity(r), set()).add(r["reply_to"])
            self.first_caller.setdefault(identity(r), r["reply_to"])
        elif kind == "Cancellation":
            self.asked.setdefault(identity(r), 0)
            self.left.add(identity(r))
        elif kind == "Erasure":
            theirs = {(r["tenant"], request_id) for request_id in r["request_ids"]}
            self.erased |= theirs
            # Known only where records and what they lead to are shown in turn.
            self.gone |= theirs & self.rows.keys()
            if self.rows:
                self.paid_since[r["tenant"]] = set()
        elif kind == "Completion":
            self.spent[r["attempt"]] = (identity(r), r["input_tokens"], r["output_tokens"])

    def wrote(self, topic: str, schema: str, r: Record) -> None:
        """A record of a topic."""
        if schema == "Usage":
            self._usage(r)
        elif schema == "Response" and topic.startswith(ANSWERS):
            # To a producer on its tenant's own topic: a reply in the form of the lake.
            if topic != f"{ANSWERS}{r['tenant']}":
                self.found.append(f"{identity(r)} was answered on {topic}, which is another's")
            self.told[identity(r)].add((r["status"], hash(r["body"].encode())))
            self.reached.add((identity(r), topic))
            self.shown[identity(r)] = hash(r["body"].encode())
        elif schema == "Response":
            if identity(r) in self.responses:
                self.found.append(f"two responses of {identity(r)}")
            self.responses[identity(r)] = (r["status"], hash(r["body"]))
        elif schema == "Waste":
            self._book(r)
        elif schema == "Audit":
            self._audit(r)
        elif schema == "BatchResult":
            self.results[r["batch_id"], r["line"]].add(hash((r["status"], r["http_status"], r["body"])))
            self.shown[identity(r)] = hash(r["body"])
        elif schema == "Reply":
            self.reached.add((identity(r), topic))
            if r["http_status"] == GONE:
                if identity(r) not in self.erased:
                    self.found.append(f"{identity(r)} was told that it is erased, and nobody erased it")
                return
            if identity(r) in self.gone:
                self.found.append(f"{identity(r)} was told what was erased")
            self.told[identity(r)].add((r["status"], hash(r["body"])))
            self.shown[identity(r)] = hash(r["body"])

    def _usage(self, u: Record) -> None:
        if identity(u) in self.rows:
            self.found.append(f"two usage rows of {identity(u)}")
        self.rows[identity(u)] = Row(u)
        sums = self.minutes[u["tenant"], u["completed_at"] // 60_000]
        for n, amount in enumerate((1, u["input_tokens"], u["output_tokens"], u["cost_micros"])):
            sums[n] += amount
        self._shared_since(u)
        if u["cache"] in SHARED and (u["input_tokens"] or u["output_tokens"]):
            self.found.append(f"{identity(u)} is a {u['cache']} and pays for tokens")
        self._book(u)

    def _book(self, r: Record) -> None:
        if not (r["input_tokens"] or r["output_tokens"]):
            return
        self.booked[r["attempt"]] += 1
        if self.booked[r["attempt"]] > 1:
            self.found.append(f"attempt {r['attempt']} is booked {self.booked[r['attempt']]} times")
        if self.spent.get(r["attempt"]) != (identity(r), r["input_tokens"], r["output_tokens"]):
            self.found.append(f"{identity(r)} books tokens that attempt {r['attempt']} did not spend for it")

    def _shared_since(self, u: Record) -> None:
        """What was answered before an erasure is no hit after it."""
        paid = self.paid_since.get(u["tenant"])
        if paid is None:
            return
        question = u["model"], self._question(identity(u))
        if u["cache"] == "miss" and u["attempt"]:
            paid |= {question, (u["model"], "masked")}
        elif u["cache"] == "hit" and question not in paid and (identity(u) not in self.masked or not paid):
            self.found.append(f"{identity(u)} is a hit of an answer that was erased")

    def _audit(self, a: Record) -> None:
        row = (a["tenant"], a["request_id"], a["stage"], a["rule"], a["action"])
        if row in self.audits:
            self.found.append(f"two audit rows {row}")
        self.audits.add(row)
        if a["action"] == "block":
            self.blocks.add(identity(a))
        if a["action"] == "mask" and a["stage"] == "request":
            self.masked.add(identity(a))

    def finish(self, finished: bool, *, replies: bool = True, results: bool = True, answers: bool = True) -> None:
        """Judge what can only be judged at the end; `replies`, `results`, `answers`: whether those topics were read."""
        self._once(finished)
        self._told(finished and replies, finished and answers)
        self._shared()
        for i, row in self.rows.items():
            if row.status == "blocked" and row.cache not in SHARED and i not in self.blocks:
                self.found.append(f"{i} was blocked without an audit row")
            if row.batch and results and (row.batch, row.line) not in self.results:
                self.found.append(f"line {row.line} of {row.batch} has a row but no result")
        for (batch, line), bodies in self.results.items():
            if len(bodies) > 1:
                self.found.append(f"line {line} of {batch} has {len(bodies)} results")
        for attempt, (owner, used_in, used_out) in self.spent.items():
            if (used_in or used_out) and not self.booked[attempt] and (owner in self.rows or shadow(owner)):
                self.found.append(f"attempt {attempt} spent {used_in, used_out}, which nobody booked")

    def _once(self, finished: bool) -> None:
        for what, rows in (("usage", self.rows), ("response", self.responses)):
            self.found += [f"{what} row of {i}, which nobody asked" for i in sorted(rows.keys() - self.asked.keys())]
            if finished:
                self.found += [f"no {what} row of {i}" for i in sorted(self.asked.keys() - rows.keys())]
        for i, (status, _) in self.responses.items():
            if i in self.rows and self.rows[i].status != status:
                self.found.append(f"response of {i} is {status}, its usage row {self.rows[i].status}")

    def _told(self, all_answered: bool, producers_too: bool) -> None:
        for i, answers in self.told.items():
            # An enquiry that its producer wrote twice is answered at each place of the journal, by what is so there.
            if len(answers) > max(1, self.enquired[i]):
                self.found.append(f"{i} was told {len(answers)} different answers")
            row = self.rows.get(i)
            others = {status for status, _ in answers if row is not None and status != row.status}
            if row is not None and others:
                self.found.append(f"{i} was told {others}, its row says {row.status}")
        wrong = sorted((i, t) for i, t in self.reached if t and t not in self.callers.get(i, ()))
        self.found += [f"{i} was answered on {topic}, where nobody waits" for i, topic in wrong]
        for i, topic in self.first_caller.items():
            known = producers_too if topic.startswith(ANSWERS) else all_answered
            if known and i not in self.left and (i, topic) not in self.reached and (i, "") not in self.reached:
                self.found.append(f"{i} was never answered on {topic}")

    def _shared(self) -> None:
        """A hit or a follower shows an answer its own tenant paid for, of the same model and the same parameters."""
        paid: defaultdict[tuple[str, str, Any], set[int | None]] = defaultdict(set)
        for i, row in self.rows.items():
            # What a guard forbids of one request it forbids of those that follow it.
            if (row.cache == "miss" and row.attempt) or (row.cache == "none" and row.status == "blocked"):
                for question in (self._question(i), "masked"):
                    paid[i[0], row.model, question].add(self.shown.get(i))
        for i, row in self.rows.items():
            if row.cache not in SHARED:
                continue
            known = paid.get((i[0], row.model, "masked" if i in self.masked else self._question(i)))
            if known is None:
                self.found.append(f"{i} is a {row.cache} of an answer its tenant never paid for")
            elif None not in known and i in self.shown and self.shown[i] not in known:
                self.found.append(f"{i} is a {row.cache} and shows another answer than was paid for")

    def _question(self, i: Identity) -> int:
        return self.asked.get(i, 0)
