"""Workers die, hang beyond their session and are told to go, each in the middle of a thousand generations."""

import asyncio
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from tests import oracle
from tests.e2e.crowd import WAVE, WORDS, Crowd, at_work, generating
from tests.e2e.faults import SESSION_S
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from workers.intake import GROUP


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def both_at_work(stack: Stack) -> bool:
    """Whether both workers are members of a group that is at rest."""
    client = AdminClient({"bootstrap.servers": stack.kafka, "log_level": 2})
    group = client.describe_consumer_groups([GROUP])[GROUP].result(20)
    busy = {m.client_id for m in group.members if m.assignment.topic_partitions}
    return group.state == ConsumerGroupState.STABLE and busy == {"worker-1", "worker-2"}


@pytest.fixture
def crowd(stack: Stack) -> Iterator[Crowd]:
    tail = Tail(stack)
    loop = asyncio.new_event_loop()
    callers = threading.Thread(target=loop.run_forever, name="callers")
    callers.start()
    try:
        yield Crowd(stack, tail, loop)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        callers.join()
        loop.close()
        tail.close()


@contextmanager
def stopped(stack: Stack, service: str) -> Iterator[int]:
    """A process that hangs during the block, which gets its time (ms); it is the same one afterwards."""
    pid = stack.pid(service)
    assert pid, f"{service} does not run"
    os.kill(pid, signal.SIGSTOP)
    try:
        yield now_ms()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert stack.pid(service) == pid


def test_three_thousand_requests_are_answered_once_though_workers_die_hang_and_leave(crowd: Crowd):
    stack = crowd.stack
    crowd.wave()
    killed = now_ms()
    stack.kill("worker-1")
    crowd.wave()
    with stopped(stack, "worker-2") as hung:
        # The others answer all that it had, once its session is over; so what it answers later is late.
        eventually(lambda: crowd.answered(hung), 90, "others to answer what a hanging worker had")
        woken = now_ms()
    assert woken - hung > SESSION_S * 1_000
    eventually(lambda: both_at_work(stack), 60, "the worker that hung to have its part again")
    crowd.wave()
    told = now_ms()
    stack.kill("worker-1", signal.SIGTERM)
    found, broken = crowd.end()
    assert crowd.asked == 3 * WAVE == 3_000
    print(
        {at: dict(at_work(found, at)) for at in (killed, hung, told)},
        f"hung {woken - hung} ms;",
        f"interrupted {sum(broken.values())}; waste {Counter((w['worker'], w['reason']) for w in found.waste)}",
    )

    for at, victim in ((killed, "worker-1"), (hung, "worker-2"), (told, "worker-1")):
        work = at_work(found, at)
        assert min(work["stream"], work["call"], work["line"]) >= 25, (victim, work)
        assert len(generating(found, victim, at)) >= 10, victim

    rows = {oracle.identity(row): row for row in found.usage}
    assert len(rows) == len(found.usage) == crowd.asked, "a request has two rows, or none"
    status = Counter(row["status"] for row in found.usage)
    assert status == {"completed": crowd.asked - sum(broken.values()), "interrupted": sum(broken.values())}
    assert all((row["status"] == "interrupted") == broken.get(row["request_id"], False) for row in found.usage)
    whole = [row for row in found.usage if row["status"] == "completed"]
    assert {(row["input_tokens"], row["output_tokens"]) for row in whole} == {(WORDS, WORDS)}

    # Nobody goes on with what another has begun to show.
    first: dict[str, str] = {}
    for start, _ in found.of("Started"):
        first.setdefault(start["request_id"], start["attempt"])
    streams = [row for row in whole if row["request_id"] in broken]
    assert streams and all(row["attempt"] == first[row["request_id"]] for row in streams)
    # A worker that is told to go finishes what it streams, and a dead one cannot.
    assert not any(broken[i] for i in generating(found, "worker-1", told))
    assert any(broken[i] for i in generating(found, "worker-1", killed))

    late = [w for w in found.waste if w["worker"] == "worker-2" and w["at"] >= woken and w["reason"] == "late"]
    assert late, "the worker that hung was no zombie"
    spent = {c["attempt"]: c["input_tokens"] + c["output_tokens"] for c, _ in found.of("Completion")}
    booked = sum(r["input_tokens"] + r["output_tokens"] for r in (*found.usage, *found.waste))
    assert sum(spent.values()) == booked > 3_000 * WORDS
