"""What is taken back stops: a running batch within two seconds, a generation within one."""

import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from schemas import topics
from tests import oracle
from tests.e2e.batches import finished, output, submit
from tests.e2e.configuration import PATIENCE
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import READ, Tail
from tests.oracle import Evidence

# The tenants of the batch and of the streams.
BATCHES, STREAMS = "fickle", "crowd"
LINES = 10_000
STARTS_MS = 2_000
STOPS_MS = 1_000
CALLERS = 20
LONG = 100


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def say(text: str) -> dict:
    return {"model": "wide", "messages": [{"role": "user", "content": text}]}


def ended(tail: Tail, tenant: str, number: int) -> Evidence:
    """What was written about `number` requests of a tenant when each has its row and the books are right."""
    wrong: list[str] = []

    def clean() -> bool:
        found = tail.of_tenant(tenant)
        wrong[:] = [f"{len(found.usage)} rows of {number}", *oracle.audit(found)]
        return len(found.usage) == number and len(wrong) == 1

    try:
        eventually(clean, 60, "the books to balance")
    except AssertionError as error:
        raise AssertionError(f"{error}; {wrong[:10]}") from None
    return tail.of_tenant(tenant)


def test_a_cancelled_batch_of_ten_thousand_starts_nothing_more_within_two_seconds(stack: Stack):
    client = stack.client(BATCHES, max_retries=0)
    tail = Tail(stack, READ)
    batch = submit(client, [f"line {i} is one of many lines" for i in range(LINES)], model="wide")
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 300, 90, "some hundred answers")
    client.batches.cancel(batch.id)
    cancelled = now_ms()
    batch = finished(client, batch, 120)
    found = ended(tail, BATCHES, LINES)
    tail.close()

    ran = [c for c, _ in found.of("Completion") if c["engine"]]
    last = max(c["started_at"] for c in ran)
    print(
        f"the last line started {last - cancelled} ms after the cancel,",
        f"the last one ended after {max(c['finished_at'] for c in ran) - cancelled} ms,",
        f"the last row was decided after {max(r['completed_at'] for r in found.usage) - cancelled} ms",
    )
    assert last < cancelled + STARTS_MS
    done = {r["line"] for r in found.usage if r["status"] == "completed"}
    assert 300 <= len(done) < LINES and batch.status == "cancelled"
    assert {r["status"] for r in found.usage} == {"completed", "cancelled"}
    assert sorted(r["line"] for r in found.usage) == list(range(1, LINES + 1))
    assert (batch.request_counts.completed, batch.request_counts.failed) == (len(done), LINES - len(done))
    assert len(output(client, batch)) == len(done)

    started = {c["request_id"]: c for c in ran}
    never = [r for r in found.usage if r["request_id"] not in started]
    assert len(never) > LINES // 2 and {r["status"] for r in never} == {"cancelled"}
    assert all(r["input_tokens"] == r["output_tokens"] == r["cost_micros"] == 0 for r in never)
    midway = [r for r in found.usage if r["status"] == "cancelled" and r["request_id"] in started]
    assert midway, "nothing was running when it was cancelled"
    for row in midway:
        spent = started[row["request_id"]]
        assert spent["outcome"] == "cancelled" and spent["finished_at"] < cancelled + STARTS_MS + STOPS_MS
        assert (row["input_tokens"], row["output_tokens"]) == (spent["input_tokens"], spent["output_tokens"])

    # Nothing is held any more: a call that may need all that was not spent is let in, one that may need more is not.
    left = PATIENCE - sum(r["input_tokens"] + r["output_tokens"] for r in found.usage)
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**say("two words"), max_tokens=left - 1)
    assert client.chat.completions.create(**say("two words"), max_tokens=left - 2).usage.total_tokens == 4


def test_a_stream_that_its_caller_leaves_stops_within_a_second_and_is_charged_what_was_said(stack: Stack):
    client = stack.client(STREAMS, max_retries=0)
    tail = Tail(stack, (topics.JOURNAL, topics.USAGE, topics.RESPONSES, topics.WASTE))

    def leave(i: int) -> tuple[str, int, int]:
        """(request id, words shown, when it was left) of a stream that is left after a few words."""
        raw = client.chat.completions.with_raw_response.create(**say(f"caller{i} " + "word " * (LONG - 1)), stream=True)
        chunks = raw.parse()
        shown = [c for c, _ in zip(chunks, range(3 + i % 4), strict=False)]
        chunks.close()
        return raw.headers["x-request-id"], len(shown), now_ms()

    with ThreadPoolExecutor(CALLERS) as threads:
        left = list(threads.map(leave, range(CALLERS)))
    found = ended(tail, STREAMS, CALLERS)
    tail.close()
    ends = {c["request_id"]: c for c, _ in found.of("Completion")}
    bills = {r["request_id"]: r for r in found.usage}
    print("stopped after", sorted(ends[i]["finished_at"] - at for i, _, at in left), "ms")
    for request_id, shown, at in left:
        end, bill = ends[request_id], bills[request_id]
        assert end["outcome"] == bill["status"] == "cancelled"
        assert end["finished_at"] - at < STOPS_MS
        assert shown <= end["output_tokens"] < shown + 10, "it went on, or was counted wrongly"
        assert (bill["input_tokens"], bill["output_tokens"]) == (LONG, end["output_tokens"])
        assert bill["cost_micros"] == LONG + 2 * end["output_tokens"]
