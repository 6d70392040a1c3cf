"""An independent walk of the ledger: what was reserved, spent and given back, from the journal and the topics alone.

Amounts that cannot be known from outside are spans. Nothing may be overspent even at their lower ends, and nobody may
be refused or deferred unless it did not fit at their upper ends.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from typing import NamedTuple

from tests.oracle.question import ONE, Limit, Question, Record, Span, Terms, cost_of, identity, window_of

# Statuses that use up one of a limit on requests, whatever was generated.
COUNTED = {"completed", "blocked", "interrupted"}
# A deferred line that fits is to be released at the next full second.
RELEASE_MS = 2_000
# The account of a prepaid balance: all that was credited, in one window without end.
PREPAID = "cost_micros/now//"
# A pool in which nothing started by `start_by` is left for the next one two seconds later, at a full second.
NEXT_POOL_MS = 3_000


class Hold(NamedTuple):
    """Part of a limit held by a request. Not `sure` where it may as well wait without holding anything."""

    limit: str
    window: int
    amount: Span
    sure: bool


class Account:
    """A limit's counters in one window."""

    __slots__ = ("held_high", "held_low", "spent_high", "spent_low", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.spent_low = self.spent_high = self.held_low = self.held_high = 0

    def hold(self, amount: Span, sign: int = 1) -> None:
        """Hold more, or less."""
        self.held_low += sign * amount.low
        self.held_high += sign * amount.high


class Pending:
    """A request without an outcome."""

    __slots__ = ("admitted", "begun", "controlled", "holds", "leaving", "question", "safe", "step")

    def __init__(self, question: Question) -> None:
        self.question = question
        self.holds: list[Hold] = []
        self.admitted = self.begun = self.leaving = self.controlled = self.safe = False
        self.step = 0


class Book:
    """One tenant's ledger, queue and open requests, as the oracle keeps them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.terms: Terms | None = None
        self.accounts: dict[str, Account] = {}
        self.credited = 0
        self.entries: set[str] = set()
        self.pending: dict[str, Pending] = {}
        self.done: set[str] = set()
        self.fresh: list[str] = []
        # Lines known to wait for quota, by batch, in the order they came; how many batch requests wait for anything;
        # and when one of them last ended where it stood, which leaves its place in the queue for a moment.
        self.queues: dict[str, dict[str, None]] = {}
        self.waiting = 0
        self.left_ms = 0
        self.fits_since: int | None = None
        # How many requests that are alike run, and which follow one of them.
        self.running: Counter[int] = Counter()
        self.following: defaultdict[int, set[str]] = defaultdict(set)
        self.stopped: set[int] = set()
        # What must have happened by when: (moment, request, the step it may not be at any more; -1 for any).
        self.due: list[tuple[int, str, int]] = []
        self.now_ms = self.at_ms = 0

    def account(self, limit: Limit, at_ms: int) -> Account:
        """The limit's account, fresh if a new window has begun."""
        window = window_of(limit.per, at_ms)
        account = self.accounts.get(limit.id)
        return account if account is not None and account.window >= window else Account(window)

    def needs(self, p: Pending) -> list[tuple[Limit, Span, bool]]:
        """Limits that count a request, what each must hold beyond what is held, and whether it counts for sure."""
        assert self.terms is not None
        held = {h.limit for h in p.holds if h.sure}
        q = p.question
        limits = self.terms.applying(q.key, q.requested, q.model)
        if self.terms.prepaid:
            limits = [*limits, (Limit(PREPAID, "cost_micros", None, self.credited, "", ""), True)]
        return [(limit, q.need(limit.on), sure) for limit, sure in limits if limit.id not in held]

    def unhold_cost(self, p: Pending) -> None:
        """A follower that is to run itself gives back its part of the price, before it needs the whole."""
        for h in [h for h in p.holds if h.limit.startswith("cost_micros/")]:
            account = self.accounts.get(h.limit)
            if account is not None and account.window == h.window:
                account.hold(h.amount, -1)
            p.holds.remove(h)

    def too_much(self, p: Pending, at_ms: int) -> bool:
        """Whether the request may have been too much for some limit."""
        for limit, amount, _ in self.needs(p):
            account = self.account(limit, at_ms)
            if amount.high and account.spent_high + account.held_high + amount.high > limit.max:
                return True
        return False


class Walk:
    """Follows every tenant. `sharp`: the order of what it is shown is the order of decisions; `strict`: its policy is
    the one they were made under; `controls`: it is shown Control records."""

    def __init__(self, found: list[str]) -> None:
        self.found = found
        self.books: dict[str, Book] = {}
        self.sharp = True
        self.strict = True
        self.controls = True

    def book(self, tenant: str) -> Book:
        """The tenant's."""
        if tenant not in self.books:
            self.books[tenant] = Book(tenant)
        return self.books[tenant]

    def take(self, kind: str, r: Record, at_ms: int) -> None:
        """A record of the journal, about to be decided."""
        book = self.book(r["tenant"])
        book.now_ms, book.at_ms = max(book.now_ms, at_ms), at_ms
        if kind == "Request":
            i = r["request_id"]
            if i not in book.pending and i not in book.done:
                book.pending[i] = Pending(Question(r, book.terms))
                book.fresh.append(i)
                if not r["batch_id"]:
                    heapq.heappush(book.due, (r["deadline"] + 1_000, i, -1))
        elif kind in ("Started", "Cancellation"):
            p = book.pending.get(r["request_id"])
            if p is not None:
                p.begun, p.leaving = p.begun or kind == "Started", p.leaving or kind == "Cancellation"
        elif kind == "Completion" and r["step"] < 0:
            p = book.pending.get(r["request_id"])
            if p is not None and r["outcome"] == "ok" and b'"safe"' in r["body"]:
                p.safe = True
        elif kind == "Policy":
            book.terms = Terms(r["document"])
            self._forget(book, {PREPAID} | {limit.id for limit in book.terms.limits})
        elif kind == "Credit" and r["entry_id"] not in book.entries:
            book.entries.add(r["entry_id"])
            book.credited += r["amount_micros"]

    def _forget(self, book: Book, kept: set[str]) -> None:
        # What was counted of a limit that is gone may count or not when the limit comes back. New holds count.
        for name, account in book.accounts.items():
            if name not in kept:
                account.spent_low = account.held_low = 0
        for p in book.pending.values():
            if any(h.limit not in kept for h in p.holds):
                p.holds = [h if h.limit in kept else h._replace(amount=Span(0, h.amount.high), sure=False)
                           for h in p.holds]  # fmt: skip

    def wrote(self, schema: str, r: Record) -> None:
        """A Usage, Work, Control or Audit record, in the order of decisions."""
        book = self.book(r["tenant"])
        if schema == "Credit":
            self._balance(book, r)
            return
        p = book.pending.get(r["request_id"])
        if schema == "Usage":
            self._ended(book, r)
        elif p is None:
            return
        elif schema == "Audit":
            if r["stage"] == "request" and r["action"] == "mask":
                p.question.masked()
        elif schema == "Control":
            p.controlled = True
        elif not r["shadow_of"]:
            if not p.admitted:
                self._admitted(book, r["request_id"], p, r)
            p.step, p.begun = r["step"], False
            if book.terms is not None and book.terms.guarded and r["step"] >= 0 and not p.safe and self.strict:
                self.found.append(f"{r['request_id']} of {book.name} was sent, and no guard called it safe")
            if r["step"] >= 0 and r["start_by"] and r["start_by"] < r["deadline"]:
                heapq.heappush(book.due, (r["start_by"] + NEXT_POOL_MS, r["request_id"], r["step"]))

    def _balance(self, book: Book, row: Record) -> None:
        account = book.accounts.get(PREPAID) or Account(0)
        low = book.credited - account.spent_high - account.held_high
        high = book.credited - account.spent_low - account.held_low
        if not low <= row["balance_micros"] <= high:
            self.found.append(f"the balance of {book.name} is {row['balance_micros']}, not from {low} to {high}")

    def rest(self, tenant: str, at_ms: int) -> None:
        """The record was decided: a request that is neither sent nor ended waits."""
        book = self.book(tenant)
        for i in book.fresh:
            p = book.pending.get(i)
            if p is not None and not p.admitted:
                self._waits(book, i, p, at_ms)
        book.fresh.clear()
        for alike in book.stopped:
            if book.following[alike] and not book.running[alike] and self.sharp:
                self.found.append(f"{min(book.following[alike])} of {tenant} follows nobody any more")
        book.stopped.clear()

    def _waits(self, book: Book, i: str, p: Pending, at_ms: int) -> None:
        q = p.question
        if not q.queues and q.alike:
            book.following[q.alike].add(i)
        if not q.queues or q.shareable:
            # It follows another; a line may wait for quota instead.
            self._follows(book, p, at_ms, known=not q.queues)
        elif self.sharp and not book.waiting and at_ms > book.left_ms + RELEASE_MS and not book.too_much(p, at_ms):
            self.found.append(f"line {i} of {book.name} was deferred, though it fitted")
        if q.queues:
            book.waiting += 1
            if not q.shareable:
                book.queues.setdefault(q.batch, {})[i] = None

    def _follows(self, book: Book, p: Pending, at_ms: int, *, known: bool) -> None:
        """A follower holds one of each limit on requests, and its part of the price."""
        for limit, _, sure in book.needs(p) if book.terms is not None else ():
            amount = {"requests": ONE, "cost_micros": p.question.shared_cost}.get(limit.on, Span(0, 0))
            if amount.high:
                self._hold(book, p, limit, amount, at_ms, known and sure)

    def _hold(
        self, book: Book, p: Pending, limit: Limit, amount: Span, at_ms: int, sure: bool, *, fresh: bool = True
    ) -> None:
        account = book.accounts[limit.id] = book.account(limit, at_ms)
        account.hold(amount if sure else Span(0, amount.high))
        p.holds.append(Hold(limit.id, account.window, amount if sure else Span(0, amount.high), sure))
        if sure and fresh and amount.low and self.strict and account.spent_low + account.held_low > limit.max:
            over = account.spent_low + account.held_low - limit.max
            self.found.append(f"{limit.id} of {book.name} is overspent by {over} at {at_ms}")

    def _admitted(self, book: Book, i: str, p: Pending, work: Record) -> None:
        q, at_ms = p.question, work["admitted_at"]
        assert book.terms is not None, "work was sent for a tenant without a policy"
        fresh = i in book.fresh
        self._dated(book, i, at_ms)
        if fresh and any(phrase in work["body"] for phrase in q.banned):
            self.found.append(f"{i} of {book.name} was sent with a text its rules forbid")
        p.admitted = True
        if not fresh:
            book.unhold_cost(p)
        book.running[q.alike] += 1
        book.following[q.alike].discard(i)
        if work["step"] >= 0:
            q.model, q.output = work["model"], Span(work["max_output_tokens"], work["max_output_tokens"])
        self._leaves(book, i, q, fresh)
        unsure = {(h.limit, h.window): h for h in p.holds if not h.sure}
        for limit, amount, sure in book.needs(p):
            account = book.account(limit, at_ms)
            old = unsure.get((limit.id, account.window))
            if old is not None:
                # It may have held this since it came, under the terms of then.
                account.hold(old.amount, -1)
                p.holds.remove(old)
            elif any(h.limit == limit.id for h in p.holds):
                amount, sure = Span(0, amount.high), False
            if amount.high:
                self._hold(book, p, limit, amount, at_ms, sure, fresh=old is None)

    def _dated(self, book: Book, i: str, at_ms: int) -> None:
        """Whether what is decided at once about a request is decided at the broker's time of its record."""
        if i in book.fresh and at_ms != book.at_ms:
            self.found.append(f"{i} of {book.name} was decided at {at_ms}, its record is of {book.at_ms}")

    def _leaves(self, book: Book, i: str, q: Question, fresh: bool) -> None:
        """Whether a line leaves in its turn."""
        queue = book.queues.get(q.batch)
        if q.queues and not fresh:
            book.waiting -= 1
        if not queue or not q.queues or (q.shareable and i not in queue):
            return
        first = next(iter(queue))
        if first != i and self.sharp:
            self.found.append(f"line {i} of {q.batch} overtook {first}")
        queue.pop(i, None)
        if not queue:
            del book.queues[q.batch]

    def _ended(self, book: Book, row: Record) -> None:
        i = row["request_id"]
        book.done.add(i)
        p = book.pending.pop(i, None)
        if p is None or book.terms is None:
            return
        q, at_ms = p.question, row["completed_at"]
        q.model = row["model"]
        if row["status"] != "expired":
            self._dated(book, i, at_ms)
        stopped = p.admitted and not row["attempt"] and row["status"] in ("cancelled", "expired")
        if stopped and self.controls and not p.controlled:
            self.found.append(f"{i} of {book.name} ended, and no worker was told")
        book.following[q.alike].discard(i)
        if p.admitted:
            book.running[q.alike] -= 1
            if not book.running[q.alike]:
                book.stopped.add(q.alike)
        if q.queues and not p.admitted and i not in book.fresh:
            book.waiting -= 1
            book.left_ms = book.now_ms
        queue = book.queues.get(q.batch)
        if queue is not None and queue.pop(i, 0) is None and not queue:
            del book.queues[q.batch]
        refused = row["status"] == "refused" and not row["attempt"] and row["cache"] == "none"
        if refused and not p.admitted and i not in book.fresh:
            book.unhold_cost(p)
        if refused and self.sharp and self.strict:
            self._refused(book, i, p, row, at_ms)
        if row["cache"] == "follower" and i in book.fresh:
            # It came and was answered within a moment: nobody saw it wait.
            self._follows(book, p, at_ms, known=True)
        if row["cache"] == "hit":
            for limit, _, sure in book.needs(p):
                cost = Span(row["cost_micros"], row["cost_micros"])
                amount = {"requests": ONE, "cost_micros": cost}.get(limit.on, Span(0, 0))
                if amount.high:
                    self._hold(book, p, limit, amount, at_ms, sure)
        free = row["cache"] in ("hit", "follower") and not q.prices.get(row["model"], {}).get(f"{row['cache']}_percent")
        if free and row["cost_micros"]:
            self.found.append(f"{identity(row)} is a {row['cache']}, which is free, and costs {row['cost_micros']}")
        if row["cache"] == "miss" and row["model"] in q.prices:
            cost = cost_of(q.prices[row["model"]], row)
            if cost != row["cost_micros"]:
                self.found.append(f"{identity(row)} costs {row['cost_micros']}, by its price {cost}")
        self._settle(book, p, row)

    def _refused(self, book: Book, i: str, p: Pending, row: Record, at_ms: int) -> None:
        assert book.terms is not None
        if row["error_code"] in ("quota_exceeded", "insufficient_quota") and not book.too_much(p, at_ms):
            self.found.append(f"{i} of {book.name} was refused at {at_ms}, though it fitted every limit")
        if row["error_code"] == "model_not_found" and book.terms.resolve(p.question.requested)[0] in book.terms.models:
            self.found.append(f"{i} of {book.name} was refused, though its model exists")

    def _settle(self, book: Book, p: Pending, row: Record) -> None:
        counted = row["status"] in COUNTED or row["input_tokens"] or row["output_tokens"]
        booked = {
            "requests": int(bool(counted)),
            "input_tokens": row["input_tokens"],
            "output_tokens": row["output_tokens"],
            "total_tokens": row["input_tokens"] + row["output_tokens"],
            "cost_micros": row["cost_micros"],
        }
        for hold in p.holds:
            account = book.accounts.get(hold.limit)
            if account is None or account.window != hold.window:
                continue
            account.hold(hold.amount, -1)
            amount = booked.get(hold.limit.partition("/")[0], 0)
            account.spent_high += amount
            if hold.sure or row["cache"] == "follower":
                account.spent_low += amount

    def passed(self, at_ms: int) -> None:
        """Time has come this far for everyone: a line that fits may not wait on."""
        for book in self.books.values():
            book.now_ms = now = max(book.now_ms, at_ms)
            self._late(book, at_ms)
            # Of a line that may follow another it is not known what it waits for; it may stand in front of all.
            if book.terms is None or not book.queues or book.waiting != sum(map(len, book.queues.values())):
                book.fits_since = None
                continue
            heads = [next(iter(queue)) for queue in book.queues.values()]
            if any(book.too_much(book.pending[i], now) for i in heads):
                book.fits_since = None
            elif book.fits_since is None:
                book.fits_since = now
            elif now - book.fits_since > RELEASE_MS:
                self.found.append(f"{heads[0]} of {book.name} still waits at {now}, it fits since {book.fits_since}")
                book.fits_since = now

    def _late(self, book: Book, at_ms: int) -> None:
        while book.due and book.due[0][0] < at_ms:
            moment, i, step = heapq.heappop(book.due)
            p = book.pending.get(i)
            if p is None:
                continue
            if step < 0:
                self.found.append(f"{i} of {book.name} outlived its deadline: {moment} is over at {at_ms}")
            elif p.step == step and not p.begun and not p.leaving:
                self.found.append(f"{i} of {book.name} still waits for pool {step}, which did not start it")

    def finish(self) -> None:
        """Nothing is open any more: nothing may be held."""
        for book in self.books.values():
            self.found += [f"{i} of {book.name} never ended" for i in book.pending]
