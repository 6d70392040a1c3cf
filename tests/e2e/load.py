"""Load of every kind: a batch, calls of a tenant with a budget, streams, and Avro records; all ask until answered."""

from __future__ import annotations

import random
import string
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import openai

from tests import oracle
from tests.e2e import producing
from tests.e2e.batches import finished, output, submit
from tests.e2e.configuration import CELL_CALLS
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

WORDS = 8
# What is at work when the fault comes, what is asked while it lasts, and what after it.
CALLS = (6, CELL_CALLS - 3, CELL_CALLS - 3)
STREAMS = (4, 4, 2)
RECORDS = (6, 4, 2)
CALL_WORDS = 40
GIVE_UP_S = 150


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
    streams: list[Future[str]] = field(default_factory=list)
    streamed: list[str] = field(default_factory=list)
    shown: dict[str, str] = field(default_factory=dict)
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
        eventually(lambda: self._arrived("http") >= CALLS[0] + STREAMS[0], 30, "the calls in the journal")
        eventually(lambda: len(self.shown) >= STREAMS[0], 30, "the first words of the streams")

    def ask(self, part: int) -> None:
        """The calls of one part, without waiting."""
        client = self.stack.client(self.tenant, timeout=90, max_retries=10)
        for _ in range(CALLS[part]):
            self.texts.append(words())
            self.calls.append(self.threads.submit(call, client, self.texts[-1]))
        open_ended = self.stack.client("chaos", timeout=90, max_retries=10)
        for _ in range(STREAMS[part]):
            self.streamed.append(words())
            self.streams.append(self.threads.submit(stream, open_ended, self.streamed[-1], self.shown))

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
        keys = {text.partition(" ")[0].encode() for text in self.streamed}

        def mine(r: dict[str, Any]) -> bool:
            if r["stream"]:
                return any(key in r["body"] for key in keys)
            return r["tenant"] == self.tenant or r["batch_id"] == batch_id or r["request_id"] in records

        return self.tail.of(mine)

    def asked(self) -> int:
        """How many requests this is."""
        return self.lines + len(self.calls) + len(self.streams) + len(self.records)

    def tokens(self) -> int:
        """What all of it but the streams must cost, in tokens: a stream may end half-way."""
        return 2 * (WORDS * self.lines + CALL_WORDS * (CELL_CALLS + len(self.records)))

    def end(self) -> Evidence:
        """Wait until everything is answered and every row is written; AssertionError names what is wrong."""
        answers = [c.result(timeout=180) for c in self.calls]
        given = [a for a in answers if a is not None]
        assert all(a in (t, None) for a, t in zip(answers, self.texts, strict=True))
        assert len(given) == CELL_CALLS, f"{len(given)} calls were answered, the budget is {CELL_CALLS}"
        ends = [s.result(timeout=180) for s in self.streams]
        assert all(text.startswith(seen) for seen, text in zip(ends, self.streamed, strict=True))
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
    name = text.partition(" ")[0]
    try:
        answer = client.chat.completions.create(
            model="slow", messages=[{"role": "user", "content": text}], extra_headers={"Idempotency-Key": name}
        )
    except openai.RateLimitError as error:
        assert error.body["code"] == "quota_exceeded"
        return None
    return answer.choices[0].message.content


def key() -> str:
    """A word that nobody else says, without digits: a few random ones in a row may be the number of a card."""
    return "".join(random.choices(string.ascii_lowercase, k=24))


def words() -> str:
    """A text of CALL_WORDS words that nobody else says; its first one is its key."""
    return " ".join([key(), *["w"] * (CALL_WORDS - 1)])


def stream(client: openai.OpenAI, text: str, shown: dict[str, str]) -> str:
    """What a streaming call showed; in `shown` under its text, as it comes. One that breaks off is repeated under its
    key, until it has a proper end.

    That end is the whole text, or an error: the worker that streamed it died, and no other one may go on with it.
    """
    headers = {"Idempotency-Key": text.partition(" ")[0]}
    ask = partial(client.chat.completions.create, model="slow", messages=[{"role": "user", "content": text}])
    seen, end = "", time.monotonic() + GIVE_UP_S
    while True:
        assert time.monotonic() < end, "a stream found no end"
        try:
            pieces = []
            for chunk in ask(stream=True, extra_headers=headers):
                pieces += [c.delta.content or "" for c in chunk.choices]
                seen = max(seen, "".join(pieces), key=len)
                if seen:
                    shown[text] = seen
                assert text.startswith(seen), "a stream showed words of two attempts"
            assert seen == text
            return seen
        except (httpx.TransportError, openai.APIConnectionError):
            continue
        except openai.APIError as error:
            assert error.code == "interrupted", error
            return seen
