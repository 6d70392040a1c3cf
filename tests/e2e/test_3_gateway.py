"""The gateway is killed while fifty callers wait. Each asks again under its key, and gets its one answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai

from tests import oracle
from tests.e2e.load import key
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail
from tests.oracle import Evidence

TENANT, MODEL = "callers", "wide"
CALLS, STREAMS = 40, 10
ALL = CALLS + STREAMS
# Nine seconds of generation each: longer than all take to come. Nobody else says the first of its words.
WORDS = 45


class Caller:
    """One who asks until answered, always under the same key; `heard` is each whole answer, (its id, its text)."""

    def __init__(self, client: openai.OpenAI, stream: bool, alive: threading.Event) -> None:
        self.text = " ".join([key(), *(f"w{i}" for i in range(1, WORDS))])
        self.broken = 0
        self.heard: list[tuple[str, str]] = []
        self._client = client
        self._alive = alive
        self._asked = {
            "model": MODEL,
            "messages": [{"role": "user", "content": self.text}],
            "stream": stream,
            "extra_headers": {"Idempotency-Key": key()},
        }

    def insist(self) -> None:
        """Ask until there is an answer; only connections break, and a gateway that has just started says 503."""
        while True:
            try:
                self.heard.append(self.ask())
                return
            except (httpx.TransportError, openai.APIConnectionError):
                self.broken += 1
            except openai.InternalServerError as error:
                assert self.broken and error.status_code == 503, error
            assert self._alive.wait(90)

    def ask(self) -> tuple[str, str]:
        """The answer to one call."""
        answer = self._client.chat.completions.create(**self._asked)
        if not self._asked["stream"]:
            return answer.id, answer.choices[0].message.content
        chunks = list(answer)
        return chunks[0].id, "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def generated(tail: Tail) -> tuple[int, int]:
    """Calls in the journal, and streams that a worker has begun."""
    found = tail.of_tenant(TENANT)
    return len(found.of("Request")), len(found.of("Started"))


def booked(tail: Tail) -> Evidence:
    """What was written of them once each has its row and the books are right."""
    wrong: list[str] = []

    def clean() -> bool:
        found = tail.of_tenant(TENANT)
        wrong[:] = oracle.audit(found)
        return not wrong and len(found.usage) >= ALL

    try:
        eventually(clean, 60, "the books to balance")
    except AssertionError as error:
        raise AssertionError(f"{error}; {wrong[:10]}") from None
    return tail.of_tenant(TENANT)


def test_fifty_who_wait_for_a_killed_gateway_get_one_answer_each_and_pay_once(stack: Stack):
    tail, alive = Tail(stack), threading.Event()
    client = stack.client(TENANT, timeout=90, max_retries=0)
    callers = [Caller(client, n < STREAMS, alive) for n in range(ALL)]
    with ThreadPoolExecutor(ALL) as threads:
        waiting = [threads.submit(caller.insist) for caller in callers]
        try:
            # Only streams are announced; all are read in one order.
            eventually(lambda: generated(tail) == (ALL, STREAMS), 60, "all calls to be queued, the streams begun")
            at = time.time_ns() // 1_000_000
            stack.kill("gateway")
        finally:
            alive.set()
        for future in waiting:
            future.result(120)
        again = list(threads.map(Caller.ask, callers))
    found = booked(tail)
    tail.close()
    assert all(caller.broken for caller in callers), "somebody did not wait when the gateway was killed"
    assert all(row["completed_at"] > at for row in found.usage), "something was answered before"
    for caller, repeated in zip(callers, again, strict=True):
        assert caller.heard == [repeated] and repeated[1] == caller.text
    assert len({answer for answer, _ in again}) == ALL

    assert len(found.usage) == len({oracle.identity(row) for row in found.usage}) == ALL
    assert {row["status"] for row in found.usage} == {"completed"}
    assert {(row["input_tokens"], row["output_tokens"]) for row in found.usage} == {(WORDS, WORDS)}
    assert len(found.of("Completion")) == ALL and len(found.of("Started")) == STREAMS and not found.waste
