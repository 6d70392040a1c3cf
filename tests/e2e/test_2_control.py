"""Control of batches on the real stack, by their usage rows: each line has one outcome and one row, and is billed once.

Nothing is said by the batches alone: what they count, what their files hold and what the lake has must be the same.
"""

import json
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import openai
import pytest
from openai.types import Batch

from tests.e2e.batches import finished, output, submit
from tests.e2e.configuration import ENQUEUED
from tests.e2e.stack import Stack, eventually

MODEL = "control"
# More tokens than the model gives: a line that asks for so many is refused, and no other is touched.
TOO_MANY = {"max_tokens": 1_000}
COLUMNS = "line, status, lane, cache, input_tokens, output_tokens, cost_micros, request_id"


class Line(NamedTuple):
    """A usage row of a batch."""

    line: int
    status: str
    lane: str
    cache: str
    input_tokens: int
    output_tokens: int
    cost_micros: int
    request_id: str


def words(count: int, longest: int = 12) -> list[str]:
    """Texts of one to `longest` words, none like another."""
    return [" ".join([f"text{n}", *["word"] * (n % longest)]) for n in range(count)]


def price(used_in: int, used_out: int, percent: int = 50) -> int:
    """Micro-units: 1 for a token in, 2 for one out, of which a batch pays half, rounded half up."""
    return (percent * (used_in + 2 * used_out) + 50) // 100


def order(client: openai.OpenAI, batch: Batch, what: str, **body: Any) -> Batch:
    """One of the calls that are extensions."""
    return client.post(f"/batches/{batch.id}/{what}", cast_to=Batch, body=body or None)


def custom_ids(client: openai.OpenAI, batch: Batch) -> tuple[list[str], list[str]]:
    """Of its output and its error file, in their order."""
    return tuple(  # type: ignore[return-value]
        [line["custom_id"] for line in output(client, batch, which)] for which in ("output_file_id", "error_file_id")
    )


def books(stack: Stack, client: openai.OpenAI, batch: Batch, texts: dict[str, str]) -> dict[str, Line]:
    """The usage rows of an ended batch by custom id, once they and all that it says of itself were found to agree.

    `texts` are its lines by custom id, in order.
    """
    total = len(texts)
    query = f"SELECT {COLUMNS} FROM usage WHERE batch_id = '{batch.id}' ORDER BY line"
    found = eventually(lambda: (rows := stack.sql(query)) and len(rows) >= total and rows, 120, "all usage rows")
    rows = [Line(int(r["line"]), r["status"], r["lane"], r["cache"], int(r["input_tokens"]), int(r["output_tokens"]),
                 int(r["cost_micros"]), r["request_id"]) for r in found]  # fmt: skip
    assert [row.line for row in rows] == list(range(1, total + 1)), "a line has no row, or two"
    by_id = dict(zip(texts, rows, strict=True))

    done, failed = custom_ids(client, batch)
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (total, len(done), len(failed))
    assert sorted(done + failed) == sorted(texts) and len(done) + len(failed) == total
    places = {name: place for place, name in enumerate(texts)}
    assert all(names == sorted(names, key=places.__getitem__) for names in (done, failed)), "not in the input's order"
    assert {name for name, row in by_id.items() if row.status == "completed"} == set(done)

    assert {row.lane for row in rows} == {"batch"}
    for name in done:
        size = len(texts[name].split())
        row = by_id[name]
        assert (row.input_tokens, row.output_tokens, row.cost_micros) == (size, size, price(size, size)), row
    for name in failed:
        row, size = by_id[name], len(texts[name].split())
        # What was running when it was stopped is charged with what was said until then.
        assert row.output_tokens <= size and row.input_tokens in (0, size) and row.status != "completed"
        assert row.cost_micros == price(row.input_tokens, row.output_tokens)
        assert row.status in ("cancelled", "expired") or row.cost_micros == row.output_tokens == 0
    assert batch.usage.input_tokens == sum(row.input_tokens for row in rows)
    assert batch.usage.output_tokens == sum(row.output_tokens for row in rows)
    assert batch.usage.total_tokens == batch.usage.input_tokens + batch.usage.output_tokens
    return by_id


def texts_of(texts: list[str]) -> dict[str, str]:
    """As `submit` names them."""
    return {f"c{n}": text for n, text in enumerate(texts)}


def billed_once(*parts: dict[str, Line]) -> None:
    """No line was answered in two batches, and none ran under two ids that both were charged for an answer."""
    answers = Counter(name for rows in parts for name, row in rows.items() if row.status == "completed")
    assert set(answers.values()) <= {1}, answers.most_common(3)
    ids = [row.request_id for rows in parts for row in rows.values()]
    assert len(set(ids)) == len(ids)


def test_a_cancelled_batch_adds_up_and_its_retry_answers_the_rest(stack: Stack):
    client, texts = stack.client("control"), words(3_000)
    batch = submit(client, texts, model=MODEL)
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 100, 60, "some answers")
    assert client.batches.cancel(batch.id).status == "cancelling"
    batch = finished(client, batch, 60)
    assert batch.status == "cancelled" and batch.created_at <= batch.in_progress_at <= batch.cancelling_at
    assert batch.cancelling_at <= batch.cancelled_at and batch.completed_at is batch.expired_at is None
    retry = order(client, batch, "retry", only=["cancelled"])
    with pytest.raises(openai.ConflictError):
        order(client, batch, "retry", only=["cancelled"])
    retry = finished(client, retry, 90)
    assert retry.status == "completed" and retry.request_counts.failed == 0
    first = books(stack, client, batch, texts_of(texts))
    left = {name: text for name, text in texts_of(texts).items() if first[name].status != "completed"}
    second = books(stack, client, retry, left)
    assert {row.status for row in first.values()} == {"completed", "cancelled"} and 100 < len(left) < 2_900
    never = [row for row in first.values() if row.status == "cancelled" and not row.input_tokens]
    assert never and all(row.cost_micros == row.output_tokens == 0 for row in never)
    billed_once(first, second)
    answered = sum(row.status == "completed" for rows in (first, second) for row in rows.values())
    assert answered == len(texts)


def test_a_paused_batch_rests_goes_on_and_pays_once(stack: Stack):
    client, texts = stack.client("control"), words(2_000)
    batch = submit(client, texts, model=MODEL)
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 100, 60, "some answers")
    assert order(client, batch, "pause").model_extra["millrace"]["paused"]

    def rests() -> Batch | None:
        shown = client.batches.retrieve(batch.id)
        return shown if shown.model_extra["millrace"]["open_lines"] == 0 else None

    held = eventually(rests, 30, "what runs to end")
    assert held.request_counts.completed < 2_000 and held.model_extra["millrace"]["waiting"]["reason"] == "paused"
    # Others are served meanwhile; the paused one stays where it was, also for a new batcher.
    stack.kill("batcher", signal.SIGKILL)
    other = finished(client, submit(client, words(40), model=MODEL), 90)
    assert other.status == "completed"
    assert client.batches.retrieve(batch.id).request_counts == held.request_counts
    assert not order(client, batch, "resume").model_extra["millrace"]["paused"]
    batch = finished(client, batch, 90)
    assert batch.status == "completed" and batch.finalizing_at <= batch.completed_at
    rows = books(stack, client, batch, texts_of(texts))
    assert {row.status for row in rows.values()} == {"completed"}
    books(stack, client, other, texts_of(words(40)))


def test_an_expired_batch_keeps_what_is_done_and_its_retry_runs_what_expired_and_what_failed(stack: Stack):
    client, texts = stack.client("control"), words(6_000)
    refused = {f"c{n}" for n in range(0, 300, 60)}
    each = [TOO_MANY if f"c{n}" in refused else {} for n in range(len(texts))]
    batch = finished(client, submit(client, texts, model=MODEL, window="8s", each=each), 90)
    assert batch.status == "expired" and batch.expired_at >= batch.expires_at == batch.created_at + 8
    with pytest.raises(openai.ConflictError):
        order(client, batch, "retry", only=["cancelled"])
    retry = finished(client, order(client, batch, "retry", completion_window="1h"), 120)
    first = books(stack, client, batch, texts_of(texts))
    assert {row.status for row in first.values()} == {"completed", "expired", "refused"}
    assert {name for name, row in first.items() if row.status == "refused"} == refused
    codes = Counter((x["error"] or {}).get("code") for x in output(client, batch, "error_file_id"))
    assert codes == {None: len(refused), "batch_expired": len(texts) - batch.request_counts.completed - len(refused)}
    left = {name: text for name, text in texts_of(texts).items() if first[name].status != "completed"}
    second = books(stack, client, retry, left)
    assert retry.status == "completed" and retry.request_counts.failed == len(refused)
    assert {name for name, row in second.items() if row.status == "refused"} == refused
    billed_once(first, second)
    assert sum(row.status == "completed" for rows in (first, second) for row in rows.values()) == 6_000 - len(refused)
    again = finished(client, order(client, retry, "retry", only=["failed"]), 60)
    third = books(stack, client, again, {name: left[name] for name in left if name in refused})
    assert again.status == "completed" and {row.cost_micros for row in third.values()} == {0}


def test_of_many_creations_at_once_as_many_are_let_in_as_the_quota_holds(stack: Stack):
    client = stack.client("queued", max_retries=0)
    # One request a day: all lines but one wait, so nothing that was let in ends by itself.
    content = "".join(
        json.dumps({"custom_id": f"c{n}", "method": "POST", "url": "/v1/chat/completions",
                    "body": {"model": MODEL, "messages": [{"role": "user", "content": "x" * 100}]}}) + "\n"
        for n in range(100)
    ).encode()  # fmt: skip
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    counts = -(-len(content) // 4)
    fit = ENQUEUED // counts
    assert 2 <= fit < 12

    def create(_: int = 0) -> Batch | openai.APIStatusError:
        try:
            return client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
        except openai.APIStatusError as error:
            return error

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(create, range(16)))
    batches = [one for one in made if isinstance(one, Batch)]
    refused = [one for one in made if not isinstance(one, Batch)]
    assert len(batches) == fit, [str(one) for one in refused]
    for error in refused:
        assert (error.status_code, error.code, error.type) == (429, "token_limit_exceeded", "rate_limit_error")
        assert error.response.headers["x-ratelimit-limit-enqueued-tokens"] == str(ENQUEUED)
        assert f"counts {counts}" in error.message and error.response.headers["x-should-retry"] == "false"
    assert [b.id for b in client.batches.list(limit=100)] == [b.id for b in sorted(batches, key=lambda b: b.id)]

    # Any end gives back what was counted, whoever dies on the way.
    ended = batches[0]
    client.batches.cancel(ended.id)
    stack.kill("batcher", signal.SIGKILL)
    assert finished(client, ended, 90).status == "cancelled"
    assert isinstance(create(), Batch) and not isinstance(create(), Batch)
    large = client.files.create(file=("in.jsonl", content * (ENQUEUED // len(content) * 4 + 5)), purpose="batch")
    with pytest.raises(openai.BadRequestError, match="never fit") as never:
        client.batches.create(input_file_id=large.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert (never.value.code, never.value.param) == ("token_limit_exceeded", "input_file_id")
    for batch in client.batches.list(limit=100):
        if batch.status != "cancelled":
            client.batches.cancel(batch.id)
    for batch in client.batches.list(limit=100):
        assert finished(client, batch, 90).status == "cancelled"
    made = [create() for _ in range(fit)]
    assert all(isinstance(one, Batch) for one in made), "an ended batch still counts"
    for one in made:
        client.batches.cancel(one.id)


def test_a_balance_that_does_not_cover_the_first_line_is_told_at_create(stack: Stack):
    client, texts = stack.client("thrifty", max_retries=0), ["four words are said", "four more are said"]
    with pytest.raises(
        openai.RateLimitError, match="0 micro-units left; the first line of this batch may cost 6"
    ) as no:
        submit(client, texts, model=MODEL)
    assert no.value.code == "insufficient_quota" and no.value.response.headers["x-should-retry"] == "false"
    stack.run("exec", "--", "python", "-m", "ingest.credit", "thrifty", "6")
    batch = submit(client, texts, model=MODEL)
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed == 1, 60, "what the balance covers")
    with pytest.raises(openai.RateLimitError, match="0 micro-units left"):
        submit(client, texts, model=MODEL)
    client.batches.cancel(batch.id)
    batch = finished(client, batch, 60)
    rows = books(stack, client, batch, texts_of(texts))
    assert [(row.status, row.cost_micros) for row in rows.values()] == [("completed", 6), ("cancelled", 0)]


def test_a_window_that_the_pools_cannot_meet_is_refused_with_one_they_can(stack: Stack):
    client = stack.client("control", max_retries=0)
    long = submit(client, words(6_000), model=MODEL)
    eventually(
        lambda: (b := client.batches.retrieve(long.id)).request_counts.completed > 3_500 or b.completed_at, 90, "a pace"
    )

    def refused() -> openai.BadRequestError | None:
        try:
            accepted = submit(client, words(3_000), model=MODEL, window="1s")
        except openai.BadRequestError as error:
            return error
        client.batches.cancel(accepted.id)
        return None

    error = eventually(refused, 30, "the capacity to be measured and told")
    assert (error.code, error.param) == ("window_too_short", "completion_window")
    assert int(error.response.headers["x-millrace-estimated-completion-at"]) > long.created_at
    finished(client, long, 120)
    assert submit(client, words(1), model=MODEL, window="1s"), "a single line fits"
    # Asked again, as nothing runs that would change what was measured between this answer and the next.
    error = eventually(refused, 30, "the window it would need now")
    window = re.search(r"completion_window of (\d+)s", error.message)
    assert window
    accepted = submit(client, words(3_000), model=MODEL, window=f"{int(window[1])}s")
    took_s = accepted.model_extra["millrace"]["estimated_completion_at"] - accepted.created_at
    assert 0 < took_s <= int(window[1]) + 2, "not what was told a moment ago"
    assert finished(client, accepted, 120).status == "completed", "what was promised was not kept"


def test_a_flex_call_waits_in_the_batch_lane_and_pays_its_price(stack: Stack):
    client = stack.client("control", max_retries=0, timeout=900)
    said = {"model": MODEL, "messages": [{"role": "user", "content": "four words are said"}]}
    beside = submit(client, words(2_000), model=MODEL)
    raw = client.chat.completions.with_raw_response.create(**said, service_tier="flex")
    whole = raw.parse()
    assert (whole.service_tier, whole.choices[0].message.content) == ("flex", "four words are said")
    streamed = client.chat.completions.with_raw_response.create(**said, service_tier="flex", stream=True)
    chunks = list(streamed.parse())
    assert {chunk.service_tier for chunk in chunks} == {"flex"}
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "four words are said"
    response = client.responses.with_raw_response.create(
        model=MODEL, input="four words are said", service_tier="flex", store=False
    )
    assert (response.parse().service_tier, response.parse().output_text) == ("flex", "four words are said")
    usual = [client.chat.completions.with_raw_response.create(**said, service_tier=t) for t in ("auto", "priority")]
    assert {answer.parse().service_tier for answer in usual} == {"default"}
    assert client.chat.completions.create(**said).service_tier is None
    with pytest.raises(openai.BadRequestError) as unknown:
        client.chat.completions.create(**said, service_tier="turbo")
    assert unknown.value.param == "service_tier"
    cheap = {answer.headers["x-request-id"] for answer in (raw, streamed, response)}
    dear = {answer.headers["x-request-id"] for answer in usual}
    ids = ", ".join(f"'{i}'" for i in cheap | dear)
    query = f"SELECT request_id, lane, batch_id, status, cost_micros FROM usage WHERE request_id IN ({ids})"
    rows = eventually(lambda: len(r := stack.sql(query)) >= 5 and r, 120, "their rows")
    for row in rows:
        lane, cost = ("batch", price(4, 4)) if row["request_id"] in cheap else ("interactive", price(4, 4, 100))
        assert (row["lane"], row["status"], int(row["cost_micros"])) == (lane, "completed", cost) and not row[
            "batch_id"
        ]
    assert finished(client, beside, 90).status == "completed"
