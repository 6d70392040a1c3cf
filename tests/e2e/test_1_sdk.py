"""What a client sees through the unmodified `openai` SDK."""

import asyncio
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from tests.e2e.batches import finished, output, submit
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually


def say(text: str, **more):
    return {"model": "echo", "messages": [{"role": "user", "content": text}], **more}


def test_a_chat_is_answered_with_its_id_and_its_usage(stack: Stack):
    raw = stack.client("acme").chat.completions.with_raw_response.create(**say("one two three", max_tokens=2))
    answer = raw.parse()
    assert answer.choices[0].message.content == "one two" and answer.choices[0].finish_reason == "length"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (3, 2, 5)
    assert raw.headers["x-millrace-cache"] == "miss" and raw.headers["x-request-id"]


def test_a_stream_has_one_word_a_chunk_and_usage_at_the_end(stack: Stack):
    text = "a stream of seven words it is"
    chunks = list(
        stack.client("globex").chat.completions.create(  # no rules: nothing is held back
            **say(text, stream=True, stream_options={"include_usage": True}, temperature=1)
        )
    )
    pieces = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert "".join(pieces) == text and len(pieces) == 7
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == 7 and not chunks[-1].choices
    assert len({c.id for c in chunks}) == 1


def test_models_are_listed(stack: Stack):
    assert {m.id for m in stack.client("acme").models.list()} >= {"echo", "smollm2-135m"}


def test_the_real_model_answers_and_streams(stack: Stack):
    client = stack.client("acme")
    question = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    whole = client.chat.completions.create(**question, max_tokens=16, temperature=0)
    assert "Paris" in whole.choices[0].message.content
    options = {"max_tokens": 16, "temperature": 0, "extra_headers": {"x-millrace-cache": "off"}}
    pieces = client.chat.completions.create(**question, **options, stream=True)
    streamed = "".join(c.choices[0].delta.content or "" for c in pieces if c.choices)
    assert streamed == whole.choices[0].message.content


@pytest.mark.parametrize(
    ("key", "call", "error", "code"),
    [
        ("mr-nobody", say("x"), openai.AuthenticationError, "invalid_api_key"),
        ("mr-acme", say("x") | {"model": "nope"}, openai.NotFoundError, "model_not_found"),
        ("mr-acme", say("x") | {"messages": []}, openai.BadRequestError, None),
        ("mr-acme", say("x", max_tokens=0), openai.BadRequestError, None),
        (
            "mr-acme",
            say("word " * 3000) | {"model": "smollm2-135m", "max_tokens": 5},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
def test_bad_calls_get_errors_of_openais_shape(stack: Stack, key, call, error, code):
    client = openai.OpenAI(base_url=stack.url, api_key=key, max_retries=0)
    with pytest.raises(error) as caught:
        client.chat.completions.create(**call)
    body = caught.value.response.json()["error"]
    assert set(body) == {"message", "type", "param", "code"} and body["message"]
    assert code is None or body["code"] == code


def test_malformed_json_is_400(stack: Stack):
    response = stack.client("acme")._client.post(
        f"{stack.url}/chat/completions", content=b"{nope", headers={"Authorization": "Bearer mr-acme"}
    )
    assert response.status_code == 400 and set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_a_thousand_lines_come_back_in_input_order_each_once(stack: Stack):
    client = stack.client("acme")
    texts = [f"line {i} of the batch" for i in range(1000)]
    batch = finished(client, submit(client, texts), 180)
    assert batch.status == "completed" and batch.error_file_id is None and batch.errors is None
    assert (batch.request_counts.total, batch.request_counts.completed, batch.request_counts.failed) == (1000, 1000, 0)
    lines = output(client, batch)
    assert [x["custom_id"] for x in lines] == [f"c{i}" for i in range(1000)]
    assert [x["response"]["body"]["choices"][0]["message"]["content"] for x in lines] == texts
    assert batch.usage.input_tokens == sum(len(t.split()) for t in texts)
    assert batch.in_progress_at and batch.finalizing_at and batch.completed_at and batch.expires_at
    listed = client.batches.list(limit=1)
    assert listed.data[0].id == batch.id
    assert client.files.retrieve(batch.output_file_id).purpose == "batch_output"


def test_sixty_lines_on_the_real_model(stack: Stack):
    client = stack.client("acme")
    texts = [f"Say the number {i} in a short sentence." for i in range(60)]
    batch = finished(client, submit(client, texts, model="smollm2-135m", max_tokens=12), 300)
    assert (batch.status, batch.request_counts.completed) == ("completed", 60)
    answers = [x["response"]["body"]["choices"][0]["message"]["content"] for x in output(client, batch)]
    assert all(answers) and len(set(answers)) > 20


def test_a_bad_file_fails_with_every_bad_line(stack: Stack):
    client = stack.client("acme")
    good = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": say("x")}
    lines = [json.dumps(good), "{broken", json.dumps(good), json.dumps({**good, "custom_id": "b", "url": "/v1/other"})]
    file = client.files.create(file=("x.jsonl", "\n".join(lines).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="1h")
    batch = finished(client, batch, 60)
    assert batch.status == "failed"
    assert {(e.line, e.code) for e in batch.errors.data} == {
        (2, "invalid_json_line"), (3, "duplicate_custom_id"), (4, "url_mismatch"),
    }  # fmt: skip


def test_a_line_the_model_refuses_is_its_own_error_line(stack: Stack):
    client = stack.client("acme")
    batch = finished(client, submit(client, ["Hello.", "word " * 3000], model="smollm2-135m", max_tokens=4), 120)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("completed", 1, 1)
    (error,) = output(client, batch, "error_file_id")
    assert error["custom_id"] == "c1" and error["response"]["status_code"] == 400
    assert error["response"]["body"]["error"]["code"] == "context_length_exceeded"


def test_a_cancelled_batch_keeps_what_is_done_and_has_a_row_for_every_line(stack: Stack):
    client = stack.client("globex")
    batch = submit(client, [f"slow line number {i}" for i in range(400)], model="slow")
    eventually(lambda: client.batches.retrieve(batch.id).request_counts.completed > 20, 60, "some lines")
    client.batches.cancel(batch.id)
    batch = finished(client, batch, 90)
    assert batch.status == "cancelled" and 0 < batch.request_counts.completed < 400
    done = output(client, batch)
    assert len(done) == batch.request_counts.completed
    rows = eventually(
        lambda: (
            (r := [u for u in records(stack, "usage", {"globex"}) if u["batch_id"] == batch.id]) and len(r) == 400 and r
        ),
        30,
        "a row for each line",
    )
    assert sum(r["status"] == "completed" for r in rows) == len(done)
    never = [r for r in rows if r["status"] == "cancelled" and not r["attempt"]]
    assert never and all(r["input_tokens"] == r["output_tokens"] == r["cost_micros"] == 0 for r in never)
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(batch.id)


def test_another_tenants_things_do_not_exist(stack: Stack):
    client = stack.client("acme")
    batch = submit(client, ["x"])
    other = stack.client("globex")
    for call in (other.batches.retrieve, other.batches.cancel):
        with pytest.raises(openai.NotFoundError):
            call(batch.id)
    for call in (other.files.retrieve, other.files.content, other.files.delete):
        with pytest.raises(openai.NotFoundError):
            call(batch.input_file_id)


def test_a_hundred_identical_calls_are_one_inference_of_one_tenant(stack: Stack):
    text = f"the same question {uuid.uuid4().hex}"

    async def ask(tenant: str, n: int) -> list[tuple[str, str]]:
        async with stack.async_client(tenant, timeout=60) as client:
            calls = (
                client.chat.completions.with_raw_response.create(**say(text, temperature=0) | {"model": "slow"})
                for _ in range(n)
            )
            answers = await asyncio.gather(*calls)
        return [(a.headers["x-millrace-cache"], a.parse().choices[0].message.content) for a in answers]

    async def both():
        return await asyncio.gather(ask("acme", 100), ask("twin", 1))

    acme, twin = asyncio.run(both())
    assert sorted({c for c, _ in acme} - {"hit"}) == ["follower", "miss"] and {t for _, t in acme} == {text}
    assert [c for c, _ in acme].count("miss") == 1
    assert twin == [("miss", text)]


def test_a_caller_who_leaves_cancels_its_request(stack: Stack):
    client = stack.client("globex", max_retries=0, timeout=1.5)
    text = " ".join(f"w{i}" for i in range(60)) + uuid.uuid4().hex
    with pytest.raises(openai.APITimeoutError):
        client.chat.completions.create(**say(text) | {"model": "slow"})
    rows = eventually(
        lambda: [u for u in records(stack, "usage", {"globex"}) if u["status"] == "cancelled" and not u["batch_id"]],
        30,
        "the row of a cancelled call",
    )
    assert rows[0]["output_tokens"] < 60


def test_a_repeated_call_with_an_idempotency_key_is_one_request(stack: Stack):
    client = stack.client("globex")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    with ThreadPoolExecutor(8) as pool:
        calls = [
            pool.submit(client.chat.completions.create, **say("once") | {"model": "slow"}, extra_headers=key)
            for _ in range(8)
        ]
        answers = {c.result().id for c in calls}
    answers.add(client.chat.completions.create(**say("once") | {"model": "slow"}, extra_headers=key).id)
    assert len(answers) == 1


def test_usage_is_live(stack: Stack):
    client = stack.client("twin")
    client.chat.completions.create(**say("count me please"))
    began = time.time()
    eventually(
        lambda: client._client.get(f"{stack.url}/usage", headers={"Authorization": "Bearer mr-twin"}).json(),
        30,
        "live usage",
    )
    assert time.time() - began < 30
