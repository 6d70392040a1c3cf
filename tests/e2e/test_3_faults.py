"""Processes die with work in flight; nothing is lost, doubled or overspent."""

import concurrent.futures
import uuid

import openai
import pytest
import redis

from tests.e2e.batches import finished, output, submit
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually

LINES = 1000
VICTIMS = ("taskmanager", "worker-1", "batcher", "jobmanager", "kafka", "worker-2")


def test_a_batch_survives_the_death_of_every_process(stack: Stack):
    client = stack.client("chaos", timeout=30, max_retries=5)
    texts = [f"chaos line {i}" for i in range(LINES)]
    batch = submit(client, texts, model="slow")

    def done() -> int:
        return client.batches.retrieve(batch.id).request_counts.completed

    for i, victim in enumerate(VICTIMS):
        mark = done() + 40 if i else 40
        reached = eventually(lambda mark=mark: (n := done()) >= mark and n, 120, f"progress before {victim} dies")
        assert reached < LINES, f"nothing was in flight when {victim} was to be killed"
        stack.kill(victim)
        assert done() < LINES, f"nothing was in flight when {victim} was killed"
    batch = finished(client, batch, 240)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", LINES, 0)
    lines = output(client, batch)
    assert [x["custom_id"] for x in lines] == [f"c{i}" for i in range(LINES)]
    assert [x["response"]["body"]["choices"][0]["message"]["content"] for x in lines] == texts
    assert batch.usage.total_tokens == 2 * 3 * LINES
    query = f"select request_id, input_tokens, output_tokens from usage where batch_id = '{batch.id}'"
    rows = eventually(lambda: len(r := stack.sql(query)) >= LINES and r, 120, "the rows in Parquet")
    assert len(rows) == len({r["request_id"] for r in rows}) == LINES
    assert sum(int(r["input_tokens"]) + int(r["output_tokens"]) for r in rows) == 2 * 3 * LINES


def test_redis_may_be_emptied_in_mid_run(stack: Stack):
    client = stack.client("chaos")
    texts = [f"redis line {i}" for i in range(200)]
    batch = submit(client, texts, model="slow")
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed >= 20, 60, "progress")
    redis.Redis(port=stack.ports["REDIS"]).flushall()
    assert client.batches.retrieve(batch.id).request_counts.completed < 200, "nothing was in flight"
    batch = finished(client, batch, 120)
    assert (batch.status, batch.request_counts.completed) == ("completed", 200)
    with pytest.raises(openai.RateLimitError):  # the spent budget is still spent
        stack.client("budget", max_retries=0).chat.completions.create(
            model="echo", messages=[{"role": "user", "content": "anything left?"}]
        )


def test_calls_in_flight_survive_the_death_of_the_gateway(stack: Stack):
    """A gateway that dies loses connections, not requests: the same key gets the one answer."""
    keys = [uuid.uuid4().hex for _ in range(20)]

    def ask(key: str, attempts: int) -> str:
        client = stack.client("chaos", timeout=60, max_retries=attempts)
        answer = client.chat.completions.create(
            model="slow",
            messages=[{"role": "user", "content": " ".join(["word"] * 40) + key}],
            extra_headers={"Idempotency-Key": key},
        )
        return answer.id

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        calls = [pool.submit(ask, key, 0) for key in keys]
        eventually(lambda: len(asked(stack, keys)) == 20, 30, "all calls in the journal")
        stack.kill("gateway")
        broken = [c for c in calls if c.exception(timeout=60)]
        assert broken, "no call was in flight at the kill"
    eventually(lambda: healthy(stack), 60, "the new gateway")
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda key: ask(key, 3), keys))
    assert len(set(answers)) == 20
    rows = eventually(lambda: len(r := rows_of(stack, answers)) >= 20 and r, 60, "the rows")
    assert len(rows) == 20 and all(r["status"] == "completed" for r in rows)


def asked(stack: Stack, keys: list[str]) -> set[str]:
    found = records(stack, "journal", {"chaos"})
    bodies = [r["body"].decode() for r in found if "reply_to" in r]
    return {key for key in keys if any(key in body for body in bodies)}


def rows_of(stack: Stack, answers: list[str]) -> list[dict]:
    ids = {a.removeprefix("chatcmpl-") for a in answers}
    return [r for r in records(stack, "usage", {"chaos"}) if r["request_id"] in ids]


def healthy(stack: Stack) -> bool:
    try:
        return bool(stack.client("chaos", max_retries=0, timeout=5).models.list().data)
    except openai.OpenAIError:
        return False
