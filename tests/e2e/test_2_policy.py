"""Quota, moderation and their rows, under concurrency and across restarts."""

import asyncio
import json
import uuid

import openai
import pytest

from tests.e2e.configuration import BUDGET
from tests.e2e.evidence import journal, records
from tests.e2e.stack import Stack, eventually
from tests.ledger_walk import Walk, walk

CALLERS = 1_000


async def storm(stack: Stack, tenant: str, callers: int, **body) -> list[int]:
    """Statuses of `callers` different calls made at once."""

    async def call(client: openai.AsyncOpenAI, i: int) -> int:
        text = f"caller {i} {uuid.uuid4().hex}"
        try:
            await client.chat.completions.create(model="echo", messages=[{"role": "user", "content": text}], **body)
        except openai.APIStatusError as error:
            if error.status_code == 429:
                assert error.body["code"] == "quota_exceeded"
                assert int(error.response.headers["retry-after"]) >= 1
                assert error.response.headers["x-should-retry"] == "false"
            return error.status_code
        return 200

    async with stack.async_client(tenant, timeout=90) as client:
        return await asyncio.gather(*(call(client, i) for i in range(callers)))


def test_exactly_k_of_a_thousand_callers_are_answered_also_after_a_restart_of_flink(stack: Stack):
    statuses = asyncio.run(storm(stack, "budget", CALLERS))
    assert statuses.count(200) == BUDGET and statuses.count(429) == CALLERS - BUDGET
    stack.kill("taskmanager")
    assert asyncio.run(storm(stack, "budget", 50)) == [429] * 50
    judged = walked(stack, "budget", CALLERS + 50)
    assert (judged.violations, judged.held, judged.refused) == ([], 0, CALLERS + 50 - BUDGET)
    assert judged.accounts["requests", "day"].spent == BUDGET


@pytest.mark.parametrize(
    ("tenant", "on", "limit", "bound"),
    # A call needs 3 + 10 tokens at most; those of the answer cost twice as much.
    [("purse", "total_tokens", 1_000, 13), ("wallet", "cost_micros", 2_000, 24)],
)
def test_a_budget_is_never_overspent_refuses_nobody_it_has_room_for_and_can_be_filled(
    stack: Stack, tenant: str, on: str, limit: int, bound: int
):
    statuses = asyncio.run(storm(stack, tenant, CALLERS, max_tokens=10))
    assert set(statuses) == {200, 429}
    after = walked(stack, tenant, CALLERS)
    assert (after.violations, after.held, after.admitted) == ([], 0, statuses.count(200))
    client = stack.client(tenant, max_retries=0)
    more = 0
    for _ in range(400):
        more += 1
        try:
            client.chat.completions.create(
                model="echo", messages=[{"role": "user", "content": f"one by {uuid.uuid4().hex}"}], max_tokens=10
            )
        except openai.RateLimitError:
            break
    filled = walked(stack, tenant, CALLERS + more)
    assert (filled.violations, filled.held) == ([], 0)
    spent = filled.accounts[on, "day"].spent
    assert limit - bound < spent <= limit
    column = {"total_tokens": ("input_tokens", "output_tokens"), "cost_micros": ("cost_micros",)}[on]
    assert spent == sum(row[name] for row in records(stack, "usage", {tenant}) for name in column)


def walked(stack: Stack, tenant: str, calls: int) -> Walk:
    """What the second auditor says of a tenant, once the rows of all its calls are visible."""
    rows = eventually(
        lambda: (r := records(stack, "usage", {tenant})) and len(r) >= calls and r, 60, "a row for each caller"
    )
    assert len(rows) == calls
    codec = stack.codec()
    return walk(tenant, [(*codec.decode(value), at) for value, at in journal(stack)], rows)


def test_a_banned_prompt_never_reaches_a_model(stack: Stack):
    client = stack.client("acme")
    raw = client.chat.completions.with_raw_response.create(
        model="slow", messages=[{"role": "user", "content": "please say А BАNNED  phrase"}]
    )
    answer = raw.parse()
    assert answer.model == "from-security-guard" and answer.choices[0].message.content == "Not here."
    assert answer.usage.total_tokens == 0
    assert has_audit(stack, raw.headers["x-request-id"], "request", "prompt", "block")


def test_a_banned_answer_never_leaves_whole_or_streamed(stack: Stack):
    client = stack.client("acme")
    text = f"here comes a leaked secret {uuid.uuid4().hex} and more"
    ask = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    raw = client.chat.completions.with_raw_response.create(**ask)
    assert raw.parse().choices[0].message.content == "Not said." and "leaked secret" not in raw.text
    assert has_audit(stack, raw.headers["x-request-id"], "response", "answer", "block")
    with client.chat.completions.with_streaming_response.create(**ask, stream=True) as response:
        lines = [line for line in response.iter_lines() if line]
        request_id = response.headers["x-request-id"]
    chunks = [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]
    shown = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert "leaked" not in shown and "secret" not in shown and shown.endswith("Not said.")
    assert lines[-1] == "data: [DONE]"
    assert chunks[-1]["model"] == "from-security-guard" and chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"]["total_tokens"] == 0
    assert has_audit(stack, request_id, "response", "answer", "block")


def test_a_card_number_is_masked_on_the_way_in(stack: Stack):
    answer = stack.client("acme").chat.completions.create(
        model="echo", messages=[{"role": "user", "content": "my card is 4111 1111 1111 1111 thanks"}]
    )
    assert answer.choices[0].message.content == "my card is [masked] thanks"


def has_audit(stack: Stack, request_id: str, stage: str, rule: str, action: str) -> bool:
    """Whether the audit row is written (it is visible after the next checkpoint)."""
    key = (request_id, stage, rule, action)
    return eventually(
        lambda: key in {(a["request_id"], a["stage"], a["rule"], a["action"]) for a in records(stack, "audit")},
        30,
        f"the audit row {key}",
    )
