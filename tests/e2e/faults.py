"""One cell of the fault matrix: load of every kind, a fault in the middle of it, and what must be so afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openai

from infra.local.flink import HEARTBEAT_TIMEOUT_MS
from schemas import kafka
from tests import oracle
from tests.e2e import producing
from tests.e2e.batches import finished, output, submit
from tests.e2e.configuration import CELL_CALLS
from tests.e2e.prober import Prober
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

# A TaskManager works on for a while after its JobManager died: the batch must last longer than that, and longer than
# the batcher is away.
LINES, LONG = 160, 480
WORDS = 8
# Calls and records that are at work when the fault comes, those that come while it lasts, and those that come after.
CALLS = (6, CELL_CALLS - 3, CELL_CALLS - 3)
RECORDS = (6, 4, 2)
CALL_WORDS = 40

SESSION_S = int(kafka.consumer("", "", "")["session.timeout.ms"]) / 1_000
HEARTBEAT_S = HEARTBEAT_TIMEOUT_MS / 1_000
# After this long others take a silent process for dead; nobody watches the gateway.
LIVENESS_S = {
    "jobmanager": HEARTBEAT_S,
    "taskmanager": HEARTBEAT_S,
    "kafka": SESSION_S,
    "worker-1": SESSION_S,
    "relay": SESSION_S,
    "batcher": SESSION_S,
    "gateway": 2.0,
}
BEYOND_S = 2.0
# These have a door of their own: whether they are back is seen in the journal, not by calls.
DOORS = {"relay": "intake", "batcher": "batch"}


@dataclass(frozen=True)
class Fault:
    """What is done to which processes."""

    sign: signal.Signals
    victims: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as "kill-worker-1"; also the tenant whose budget is spent in its cell."""
        verb = "kill" if self.sign is signal.SIGKILL else "stop"
        return "-".join((verb, *self.victims))

    @property
    def long(self) -> bool:
        """Whether the batch must go on for long after the fault."""
        return not {"jobmanager", "batcher"}.isdisjoint(self.victims)

    @property
    def held_s(self) -> float:
        """How long a stopped process stays so."""
        stopped = self.sign is signal.SIGSTOP
        return max(LIVENESS_S[victim] for victim in self.victims) + BEYOND_S if stopped else 0.0


ALL = (
    *(Fault(sign, (victim,)) for victim in LIVENESS_S for sign in (signal.SIGKILL, signal.SIGSTOP)),
    Fault(signal.SIGKILL, ("jobmanager", "taskmanager")),
)


@contextmanager
def struck(stack: Stack, fault: Fault) -> Iterator[int]:
    """Strike; the block runs while the fault lasts, and gets its time (ms). A stopped process goes on after it."""
    before = {victim: stack.pid(victim) for victim in fault.victims}
    assert all(before.values()), before
    at = time.time_ns() // 1_000_000
    for pid in before.values():
        os.kill(pid, fault.sign)
    try:
        yield at
        # How long a process hangs is the fault itself, not something to wait for.
        threading.Event().wait(fault.held_s)
    finally:
        if fault.sign is signal.SIGSTOP:
            for pid in before.values():
                os.kill(pid, signal.SIGCONT)
    for victim, pid in before.items():
        if fault.sign is signal.SIGKILL:
            eventually(lambda v=victim, p=pid: stack.pid(v) not in (0, p), 60, f"a new {victim} after {pid}")


@dataclass
class Load:
    """What one cell asks for: a batch, calls of a tenant that may make CELL_CALLS, and records of a producer."""

    stack: Stack
    tenant: str
    tail: Tail
    threads: ThreadPoolExecutor
    lines: int
    calls: list[Future[str | None]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    batch: Any = None

    def begin(self) -> None:
        """Ask for the first part, and wait until it is at work."""
        client = self.stack.client("chaos", timeout=60, max_retries=10)
        texts = [f"{self.tenant} {i} " + "w " * (WORDS - 2) for i in range(self.lines)]
        self.batch = submit(client, texts, model="slow")
        eventually(lambda: self.done() >= 5, 60, "the first lines of the batch")
        self.produce(0)
        eventually(lambda: self._arrived("intake") >= RECORDS[0], 30, "the records in the journal")
        self.ask(0)
        eventually(lambda: self._arrived("http") >= CALLS[0], 30, "the calls in the journal")

    def ask(self, part: int) -> None:
        """The calls of one part, without waiting."""
        client = self.stack.client(self.tenant, timeout=90, max_retries=10)
        for _ in range(CALLS[part]):
            text = " ".join([uuid.uuid4().hex, *["w"] * (CALL_WORDS - 1)])
            self.texts.append(text)
            self.calls.append(self.threads.submit(call, client, text))

    def produce(self, part: int) -> None:
        """The records of one part, without waiting."""
        names = [f"device-{uuid.uuid4().hex}" for _ in range(RECORDS[part])]
        self.records += names
        message = [{"role": "user", "content": " ".join(["w"] * CALL_WORDS)}]
        values = [producing.intake(self.stack, "chaos", id=name, model="slow", messages=message) for name in names]
        self.threads.submit(producing.produce, self.stack, "chaos", *values)

    def _arrived(self, source: str) -> int:
        return sum(r["source"] == source for r, _ in self.evidence().of("Request"))

    def done(self) -> int:
        """Lines of the batch that a worker has finished."""
        return len(self.evidence().of("Completion"))

    def evidence(self) -> Evidence:
        """All that was written about this load."""
        batch_id, records = self.batch.id, set(self.records)
        return self.tail.of(
            lambda r: r["tenant"] == self.tenant or r["batch_id"] == batch_id or r["request_id"] in records
        )

    def asked(self) -> int:
        """How many requests this is."""
        return self.lines + len(self.calls) + len(self.records)

    def tokens(self) -> int:
        """What all of it must cost, in tokens."""
        return 2 * (WORDS * self.lines + CALL_WORDS * (CELL_CALLS + len(self.records)))

    def end(self) -> Evidence:
        """Wait until everything is answered and every row is written; AssertionError names what is wrong."""
        answers = [c.result(timeout=180) for c in self.calls]
        given = [a for a in answers if a is not None]
        assert all(a in (t, None) for a, t in zip(answers, self.texts, strict=True))
        assert len(given) == CELL_CALLS, f"{len(given)} calls were answered, the budget is {CELL_CALLS}"
        client = self.stack.client("chaos", timeout=60, max_retries=10)
        batch = finished(client, self.batch, 180)
        assert (batch.status, batch.request_counts.completed) == ("completed", self.lines), batch
        lines = output(client, batch)
        assert [x["custom_id"] for x in lines] == [f"c{i}" for i in range(self.lines)]
        wrong: list[str] = []

        def clean() -> bool:
            found = self.evidence()
            wrong[:] = oracle.audit(found)
            return not wrong and len(found.usage) >= self.asked()

        try:
            eventually(clean, 60, f"{self.asked()} rows")
        except AssertionError as error:
            raise AssertionError(f"{error}; {wrong[:10]}") from None
        return self.evidence()


def call(client: openai.OpenAI, text: str) -> str | None:
    """The answer to a call that the SDK repeats under its key while nobody answers; None if the quota is used up."""
    key = text.partition(" ")[0]
    try:
        answer = client.chat.completions.create(
            model="slow", messages=[{"role": "user", "content": text}], extra_headers={"Idempotency-Key": key}
        )
    except openai.RateLimitError as error:
        assert error.body["code"] == "quota_exceeded"
        return None
    return answer.choices[0].message.content


def in_flight(evidence: Evidence, at_ms: int) -> dict[str, int]:
    """Requests that were in the journal at `at_ms` and not ended, by the door they came through."""
    ended = {oracle.identity(row): row["completed_at"] for row in evidence.usage}
    first = {oracle.identity(r): (at, r["source"]) for r, at in reversed(evidence.of("Request"))}
    return dict(Counter(source for i, (at, source) in first.items() if at <= at_ms < ended.get(i, at_ms + 1)))


def reopened_s(evidence: Evidence, door: str, since_ms: int) -> float:
    """Seconds until the first request after `since_ms` came through a door."""
    return (min(at for r, at in evidence.of("Request") if r["source"] == door and at > since_ms) - since_ms) / 1_000


def run(stack: Stack, fault: Fault) -> dict[str, Any]:
    """Carry out one cell; its figures."""
    tail, job = Tail(stack), stack.job()
    new_job = fault.sign is signal.SIGKILL and "jobmanager" in fault.victims
    try:
        with ThreadPoolExecutor(256) as threads:
            load = Load(stack, fault.name, tail, threads, LONG if fault.long else LINES)
            load.begin()
            with struck(stack, fault) as at:
                if fault.sign is signal.SIGKILL:
                    prober, back_at = Prober(stack, threads), at
                load.ask(1)
                load.produce(1)
            if fault.sign is signal.SIGSTOP:
                prober, back_at = Prober(stack, threads), time.time_ns() // 1_000_000
            try:
                eventually(
                    lambda: prober.steady() and stack.admitting() and (stack.job() != job or not new_job),
                    120,
                    "calls to be answered at once again",
                )
                load.ask(2)
                load.produce(2)
                evidence = load.end()
            finally:
                recovery_s = prober.end()
        if door := DOORS.get(fault.victims[0]):
            recovery_s = reopened_s(evidence, door, back_at)
    finally:
        tail.close()
    rows = Counter(oracle.identity(row) for row in evidence.usage)
    answered = sum(r["status"] == "completed" for r in evidence.usage if r["tenant"] == fault.name)
    return {
        "cell": fault.name,
        "signal": fault.sign.name,
        "victims": list(fault.victims),
        "held_s": fault.held_s,
        "in_flight": in_flight(evidence, at),
        "asked": load.asked(),
        "lost": load.asked() - len(rows),
        "doubled": sum(n - 1 for n in rows.values()),
        "overspent": answered - CELL_CALLS,
        "tokens_off": sum(r["input_tokens"] + r["output_tokens"] for r in evidence.usage) - load.tokens(),
        "wasted_attempts": len(evidence.waste),
        "recovery_s": round(recovery_s, 1),
    }
