"""Requests that are held while a stack is stopped and started: running, waiting for quota, and counted already."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import openai

from schemas import topics
from tests import oracle
from tests.e2e.batches import finished, output, submit
from tests.e2e.cluster import newest
from tests.e2e.configuration import A_MINUTE, CARRIED
from tests.e2e.evidence import records
from tests.e2e.faults import in_flight
from tests.e2e.load import call, key
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

# Lines that are left when all that the minutes of a test admit have gone.
REST = 10
MINUTE_MS = 60_000
# A stop follows the submission within this: lines that wait for the next minute still wait then.
ROOM_MS = 30_000
WORK = topics.work("slow", "batch").name
CALLS = 6
# Nine seconds on the pool `slow`: longer than a savepoint takes to be made, and within what a worker has to finish.
CALL_WORDS = 150


class Carried:
    """Batches that wait for quota, one for each tenant, and calls that run; the last lines go in minute `minutes`."""

    def __init__(self, stack: Stack, tenants: Iterable[str], minutes: int) -> None:
        self.stack = stack
        self.lines = (minutes - 1) * A_MINUTE + REST
        self.tenants = tuple(tenants)
        self.tail = Tail(stack)
        self.batches: dict[str, Any] = {}
        self.calls: list[tuple[str, Future[str | None]]] = []
        self.asked: Counter[str] = Counter()
        self.stops: list[int] = []
        self._threads = ThreadPoolExecutor(64)

    def submit(self) -> None:
        """Submit the batches, and wait until each tenant has lines that run and lines that wait for the next minute."""
        eventually(lambda: time.time() * 1_000 % MINUTE_MS < MINUTE_MS - ROOM_MS, 60, "a minute that lasts")
        for tenant in self.tenants:
            texts = [f"{tenant} {i} is a line" for i in range(self.lines)]
            self.batches[tenant] = submit(self.stack.client(tenant), texts, model="slow")
        for tenant in self.tenants:
            eventually(lambda t=tenant: self.waiting(t), 60, f"lines of {tenant} that wait for quota")

    def waiting(self, tenant: str) -> set[str]:
        """Lines in the journal that were not sent to a worker, once as many were sent as may run in a minute."""
        batch_id = self.batches[tenant].id
        asked = {r["request_id"] for r, _ in self.tail.read().of("Request") if r["batch_id"] == batch_id}
        sent = {r["request_id"] for r in records(self.stack, WORK, {tenant})}
        return asked - sent if len(sent) >= A_MINUTE else set()

    def stopped(self) -> None:
        """Note when the savepoint was made with which the stack has just been stopped."""
        self.stops.append((newest(self.stack) / "_metadata").stat().st_mtime_ns // 1_000_000)

    def call(self) -> None:
        """Make calls that take seconds, as an SDK that does not give up, and wait until they are at work."""
        client = self.stack.client("chaos", timeout=90, max_retries=30)
        texts = [" ".join([key(), *["w"] * CALL_WORDS]) for _ in range(CALLS)]
        self.calls += [(text, self._threads.submit(call, client, text)) for text in texts]
        wanted = {text.encode() for text in texts}

        def at_work() -> bool:
            bodies = [r["body"] for r, _ in self.tail.read().of("Request")]
            return all(any(text in body for body in bodies) for text in wanted)

        eventually(at_work, 30, "the calls in the journal")

    def storm(self, callers: int) -> list[int]:
        """Calls at once, `callers` for each tenant; how many of each tenant's were answered."""
        return [asyncio.run(self._storm(tenant, callers)) for tenant in self.tenants]

    async def _storm(self, tenant: str, callers: int) -> int:
        self.asked[tenant] += callers

        async def one(client: openai.AsyncOpenAI) -> bool:
            message = {"role": "user", "content": uuid.uuid4().hex}
            try:
                await client.chat.completions.create(model="echo", messages=[message])
            except openai.RateLimitError:
                return False
            return True

        async with self.stack.async_client(tenant, timeout=60) as client:
            return sum(await asyncio.gather(*(one(client) for _ in range(callers))))

    def evidence(self) -> Evidence:
        """What was written about all of it."""
        texts = {text.encode() for text, _ in self.calls}
        return self.tail.of(
            lambda r: (
                r["tenant"] in self.tenants or (r["tenant"] == "chaos" and any(text in r["body"] for text in texts))
            )
        )

    def end(self) -> None:
        """Wait until all is answered, and judge it."""
        for text, future in self.calls:
            assert future.result(180) == text
        for tenant, batch in self.batches.items():
            client = self.stack.client(tenant)
            batch = finished(client, batch, 240)
            assert (batch.status, batch.request_counts.completed) == ("completed", self.lines)
            said = [x["response"]["body"]["choices"][0]["message"]["content"] for x in output(client, batch)]
            assert said == [f"{tenant} {i} is a line" for i in range(self.lines)]
        wrong: list[str] = []

        def clean() -> bool:
            wrong[:] = oracle.audit(self.evidence())
            return not wrong

        eventually(clean, 60, "the books to balance")
        for at in self.stops:
            held = in_flight(self.evidence(), at)
            assert held.get("http") and held.get("batch"), f"nothing was held at a stop: {held}"
        answered = Counter(
            r["tenant"] for r in self.evidence().usage if r["model"] == "echo" and r["status"] == "completed"
        )
        assert answered == {tenant: CARRIED for tenant in self.tenants if self.asked[tenant] >= CARRIED}
        for tenant in self.tenants:
            work = records(self.stack, WORK, {tenant})
            first = {r["request_id"]: r["admitted_at"] for r in work}
            admitted = Counter(at // MINUTE_MS for at in first.values())
            assert sum(admitted.values()) == self.lines and max(admitted.values()) <= A_MINUTE, admitted
        self.tail.close()
        self._threads.shutdown()
