"""One cell of the fault matrix: load of every kind, a fault in the middle of it, and what must be so afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infra.local.flink import HEARTBEAT_TIMEOUT_MS
from schemas import kafka
from tests import oracle
from tests.e2e.configuration import CELL_CALLS
from tests.e2e.load import Load
from tests.e2e.prober import Prober
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

# A TaskManager works on for a while after its JobManager died: the batch must last longer than that, and longer than
# the batcher is away.
LINES, LONG = 160, 480

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
    streams = {r["request_id"] for r, _ in evidence.of("Request") if r["stream"]}
    whole = [r for r in evidence.usage if r["request_id"] not in streams]
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
        "tokens_off": sum(r["input_tokens"] + r["output_tokens"] for r in whole) - load.tokens(),
        "interrupted": sum(r["status"] == "interrupted" for r in evidence.usage),
        "wasted_attempts": len(evidence.waste),
        "recovery_s": round(recovery_s, 1),
    }
