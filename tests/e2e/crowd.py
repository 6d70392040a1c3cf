"""A crowd: streams, calls and lines of a batch that come in waves, each asked once, none of them repeated."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import openai

from tests import oracle
from tests.e2e.batches import finished, output, submit
from tests.e2e.load import key
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

TENANT, MODEL = "crowd", "wide"
# Six seconds each on the pool `wide`. Every word is another one, so one left out or said twice is seen.
WORDS = 30
STREAMS, CALLS, LINES = 150, 250, 600
WAVE = STREAMS + CALLS + LINES


class Heard(NamedTuple):
    """What a caller was given: its request, the text, and whether that broke off with an error."""

    request_id: str
    text: str
    broken: bool = False


@dataclass
class Crowd:
    """Waves of WAVE requests of one tenant. A caller who is refused, or told anything else but `interrupted`, fails.

    All callers live on one `loop`, which runs in a thread of its own: four hundred threads that read words at once
    keep each other from asking for ten seconds, and what was to be in flight has ended by then.
    """

    stack: Stack
    tail: Tail
    loop: asyncio.AbstractEventLoop
    streams: list[tuple[str, Future[Heard]]] = field(default_factory=list)
    calls: list[tuple[str, Future[Heard]]] = field(default_factory=list)
    batches: list[tuple[list[str], Any]] = field(default_factory=list)
    shown: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._client = self.stack.async_client(TENANT, timeout=180, max_retries=0)

    def wave(self) -> None:
        """Ask for WAVE more, and wait until lines are admitted and a third of the streams show words.

        Not more: where a worker is away, half of the streams may wait for it.
        """
        texts = [words() for _ in range(LINES)]
        batch = submit(self.stack.client(TENANT), texts, model=MODEL)
        self.batches.append((texts, batch))
        eventually(lambda: self._sent(batch.id) >= LINES // 6, 60, "the first lines of the batch")
        streamed = {words() for _ in range(STREAMS)}
        self.streams += [(text, self._ask(stream(self._client, text, self.shown))) for text in streamed]
        self.calls += [(text, self._ask(call(self._client, text))) for text in (words() for _ in range(CALLS))]
        eventually(lambda: len(self.shown & streamed) >= STREAMS // 3, 60, "the first words of the streams")

    def _ask(self, asking: Coroutine[Any, Any, Heard]) -> Future[Heard]:
        return asyncio.run_coroutine_threadsafe(asking, self.loop)

    def _sent(self, batch_id: str) -> int:
        return sum(r["batch_id"] == batch_id for r, _ in self.evidence().of("Request"))

    def evidence(self) -> Evidence:
        """All that was written about it."""
        return self.tail.of_tenant(TENANT)

    @property
    def asked(self) -> int:
        """How many requests this is."""
        return len(self.streams) + len(self.calls) + LINES * len(self.batches)

    def answered(self, since_ms: int) -> bool:
        """Whether all that was in the journal at `since_ms` has ended."""
        found = self.evidence()
        ended = {r["request_id"] for r in found.responses}
        return all(r["request_id"] in ended for r, at in found.of("Request") if at <= since_ms)

    def end(self) -> tuple[Evidence, dict[str, bool]]:
        """Wait until all are answered and every row is written; AssertionError names what is wrong.

        Returns what was written, and of each stream whether it broke off.
        """
        for text, future in self.calls:
            assert future.result(120).text == text
        broken = {}
        for text, future in self.streams:
            heard = future.result(120)
            assert text.startswith(heard.text) and (heard.broken or heard.text == text), "a stream left out some words"
            broken[heard.request_id] = heard.broken
        assert len(broken) == len(self.streams)
        client = self.stack.client(TENANT, timeout=60)
        for texts, batch in self.batches:
            ended = finished(client, batch, 120)
            assert (ended.status, ended.request_counts.completed) == ("completed", LINES), ended
            said = [x["response"]["body"]["choices"][0]["message"]["content"] for x in output(client, ended)]
            assert said == texts
        wrong: list[str] = []

        def clean() -> bool:
            found = self.evidence()
            wrong[:] = oracle.audit(found)
            return not wrong and len(found.usage) >= self.asked

        try:
            eventually(clean, 60, f"{self.asked} rows")
        except AssertionError as error:
            raise AssertionError(f"{error}; {wrong[:10]}") from None
        return self.evidence(), broken


def words() -> str:
    """A text of WORDS words, of which nobody else says the first."""
    return " ".join([key(), *(f"w{i}" for i in range(1, WORDS))])


async def call(client: openai.AsyncOpenAI, text: str) -> Heard:
    """The answer to one call."""
    answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    return Heard(answer.id.removeprefix("chatcmpl-"), answer.choices[0].message.content or "")


async def stream(client: openai.AsyncOpenAI, text: str, shown: set[str]) -> Heard:
    """What one streaming call showed; `shown` gets the text when the first of it comes."""
    raw = await client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": text}], stream=True
    )
    request_id, pieces = raw.headers["x-request-id"], list[str]()
    try:
        async for chunk in raw.parse():
            pieces += [c.delta.content or "" for c in chunk.choices]
            if any(pieces):
                shown.add(text)
    except openai.APIError as error:
        assert error.code == "interrupted", error
        return Heard(request_id, "".join(pieces), True)
    return Heard(request_id, "".join(pieces))


def at_work(evidence: Evidence, at_ms: int) -> Counter[str]:
    """Requests that were in the journal at `at_ms` and had not ended: streams, calls and lines."""
    ended = {r["request_id"]: r["completed_at"] for r in evidence.usage}
    kinds: Counter[str] = Counter()
    for r, at in evidence.of("Request"):
        if at <= at_ms < ended[r["request_id"]]:
            kinds["stream" if r["stream"] else "line" if r["batch_id"] else "call"] += 1
    return kinds


def generating(evidence: Evidence, worker: str, at_ms: int) -> set[str]:
    """Streams that a worker had begun by `at_ms` and that had not ended then."""
    ended = {r["request_id"]: r["completed_at"] for r in evidence.usage}
    begun = (r for r, at in evidence.of("Started") if r["worker"] == worker and at <= at_ms)
    return {r["request_id"] for r in begun if ended[r["request_id"]] > at_ms}
