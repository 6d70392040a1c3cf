"""The gateway as a process, on a real broker and registry. Admission is a double: scripted_admission.py."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from parts import Parts, await_
from processes import Process, apply
from scripted_admission import Record, ScriptedAdmission, completion, echo, piece

from schemas.wire import Codec
from streams.guard import guard_body

CONFIG = Path(__file__).parents[2] / "config"
HELLO = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"
KEY = {"authorization": "Bearer mr-acme-demo"}
READER = """
tenants:
  acme:
    keys:
      - {name: demo, key: mr-acme-demo}
      - {name: reader, key: mr-acme-reader, roles: [analyst]}
  late: {keys: [{name: late, key: mr-late-key}]}
pools: {echo: {engine: echo}}
models: {echo: {route: [echo]}}
"""


@pytest.fixture(scope="module")
def gateway(parts: Parts, kafka: str, codec: Codec) -> Iterator[Process]:
    done = apply(parts, CONFIG)
    assert done.returncode == 0, done.stderr
    process = Process(parts, "gateway", "ingest.gateway")
    url = f"http://127.0.0.1:{parts.settings.port('HTTP')}"
    await_(lambda: healthy(url), "gateway")
    yield process
    assert process.stop() == 0


@pytest.fixture
def client(gateway: Process, parts: Parts) -> Iterator[httpx.Client]:
    base = f"http://127.0.0.1:{parts.settings.port('HTTP')}"
    with httpx.Client(base_url=base, headers=KEY, timeout=30, limits=httpx.Limits(max_connections=200)) as made:
        yield made


@pytest.fixture
def admission(kafka: str, codec: Codec, gateway: Process) -> Iterator[ScriptedAdmission]:
    double = ScriptedAdmission(kafka, codec)
    yield double
    double.close()


def healthy(url: str) -> bool:
    try:
        return httpx.get(url + "/healthz").status_code == 200
    except httpx.HTTPError:
        return False


def silent(_admission: ScriptedAdmission, _request: Record) -> None:
    """Answer nothing."""


def envelope(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert answer.headers["x-request-id"]
    assert answer.headers["x-millrace-cache"] == "none"
    return error


def test_a_call_is_queued_as_it_came_and_answered(client: httpx.Client, admission: ScriptedAdmission) -> None:
    raw = b'{"model":"echo", "messages":[{"role":"user","content":"h\\u00e9llo"}], "x_unknown": {"a": [1.50]}}'
    answer = client.post(CHAT, content=raw, headers={"x-millrace-cache": "on", "x-millrace-timeout-ms": "5000"})
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "héllo"
    assert answer.headers["x-millrace-cache"] == "miss"
    (request,) = admission.wait_for("Request")
    assert answer.headers["x-request-id"] == request["request_id"]
    assert request["body"] == raw
    assert (request["tenant"], request["key_id"], request["lane"]) == ("acme", "demo", "interactive")
    assert (request["cache"], request["repeatable"], request["stream"]) == ("on", False, False)
    assert request["deadline"] - request["received_at"] == 5000


def test_the_outcome_is_passed_on_with_its_headers(client: httpx.Client, admission: ScriptedAdmission) -> None:
    error = {"error": {"message": "Over quota.", "type": "requests", "param": None, "code": "quota_exceeded"}}
    headers = {"retry-after": "17", "x-should-retry": "false", "x-ratelimit-limit-requests": "6"}
    admission.script = lambda a, r: a.reply(r, error, http_status=429, status="refused", cache="none", headers=headers)
    for stream in (False, True):
        answer = client.post(CHAT, json={"messages": HELLO, "stream": stream})
        assert answer.status_code == 429
        assert answer.json() == error
        assert headers.items() <= dict(answer.headers).items()


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({"authorization": ""}, b"{}", 401, "invalid_api_key"),
        ({"authorization": "Bearer wrong"}, b"{}", 401, "invalid_api_key"),
        ({"authorization": "Basic mr-acme-demo"}, b"{}", 401, "invalid_api_key"),
        ({}, b"{", 400, "invalid_json"),
        ({}, b'{"messages": []}', 400, "invalid_request"),
        ({"x-millrace-cache": "maybe"}, b'{"messages": [{"role": "user"}]}', 400, "invalid_request"),
        ({"x-millrace-timeout-ms": "-1"}, b'{"messages": [{"role": "user"}]}', 400, "invalid_request"),
        ({}, b" " * (4 * 1024 * 1024 + 1), 413, "request_too_large"),
    ],
)
def test_bad_calls_get_an_envelope(
    client: httpx.Client, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    answer = client.post(CHAT, content=content, headers=headers)
    assert (answer.status_code, envelope(answer)["code"]) == (status, code)


def test_a_hash_is_not_a_key(client: httpx.Client) -> None:
    from schemas.config import hash_key

    for form in ("{}", "sha256:{}"):
        bearer = "Bearer " + form.format(hash_key("mr-acme-demo"))
        assert client.post(CHAT, json={}, headers={"authorization": bearer}).status_code == 401


def test_other_paths_and_methods(client: httpx.Client) -> None:
    assert envelope(client.get("/v1/nothing"))["code"] == "not_found"
    assert envelope(client.get(CHAT))["code"] == "method_not_allowed"
    assert envelope(client.post("/v1/models"))["code"] == "method_not_allowed"
    assert client.get("/v1/nothing").status_code == 404
    assert client.get(CHAT).status_code == 405


def test_a_stream_from_chunks(client: httpx.Client, admission: ScriptedAdmission) -> None:
    shown = threading.Event()

    def script(a: ScriptedAdmission, r: Record) -> None:
        a.chunk(r, 0, piece("one "))
        assert shown.wait(10), "the first piece was not passed on before the second was written"
        a.chunk(r, 1, piece("two"))
        a.reply(r, completion("one two"), attempt="a1")

    admission.script = script
    body = {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    lines = []
    with client.stream("POST", CHAT, json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["x-millrace-cache"] == "miss"
        for line in answer.iter_lines():
            if line:
                lines.append(line.removeprefix("data: "))
                shown.set()
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert [e["choices"][0]["delta"].get("content") for e in events if e["choices"]] == ["one ", "two", None]
    assert events[-1]["usage"]["total_tokens"] == 5


def test_the_openai_sdk(client: httpx.Client, admission: ScriptedAdmission) -> None:
    sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="mr-acme-demo", max_retries=0)
    whole = sdk.chat.completions.create(model="echo", messages=HELLO)  # type: ignore[arg-type]
    assert whole.choices[0].message.content == "hello"
    admission.script = lambda a, r: a.reply(r, completion("a cached answer"), cache="hit")
    options = {"include_usage": True}
    stream = sdk.chat.completions.create(model="echo", messages=HELLO, stream=True, stream_options=options)  # type: ignore
    events = list(stream)
    assert "".join(e.choices[0].delta.content or "" for e in events if e.choices) == "a cached answer"
    assert events[-1].usage.total_tokens == 5
    assert {m.id for m in sdk.models.list()} == {"smollm2-135m", "echo", "wordllama-256"}
    assert sdk.models.retrieve("default").id == "smollm2-135m"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("nothing")


def test_responses_by_the_openai_sdk(client: httpx.Client, admission: ScriptedAdmission) -> None:
    sdk = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="mr-acme-demo", max_retries=0)
    admission.script = lambda a, r: a.reply(r, completion("said"))
    whole = sdk.responses.create(model="echo", input="hello", instructions="be brief")
    assert (whole.output_text, whole.status, whole.instructions) == ("said", "completed", "be brief")
    (sent,) = admission.wait_for("Request")
    assert (sent["endpoint"], json.loads(sent["body"])["input"]) == ("/v1/responses", "hello"), "sent on as it came"

    def script(a: ScriptedAdmission, r: Record) -> None:
        a.chunk(r, 0, piece("one "))
        a.reply(r, completion("one two"), attempt="a1")

    admission.script = script
    with sdk.responses.stream(model="echo", input="hello") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert "".join(deltas) == final.output_text == "one two" and final.usage and final.usage.total_tokens == 5
    error = {"error": {"message": "lost", "type": "server_error", "param": None, "code": "interrupted"}}
    admission.script = lambda a, r: (a.chunk(r, 0, piece("one ")), a.reply(r, error, status="interrupted"))
    with pytest.raises(openai.APIError, match="lost"):
        list(sdk.responses.create(model="echo", input="hello", stream=True))
    with pytest.raises(openai.BadRequestError, match="not stored"):
        sdk.responses.create(model="echo", input="hello", previous_response_id="resp_1")


def test_a_blocked_stream(client: httpx.Client, admission: ScriptedAdmission) -> None:
    admission.script = lambda a, r: a.reply(r, guard_body("Not allowed."), status="blocked", cache="none")
    text = client.post(CHAT, json={"messages": HELLO, "stream": True}).text
    message, stop, done = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert json.loads(message)["choices"][0]["delta"]["content"] == "Not allowed."
    assert json.loads(stop)["model"] == "from-security-guard"
    assert done == "[DONE]"


def test_a_failure_in_mid_stream_ends_it_without_done(client: httpx.Client, admission: ScriptedAdmission) -> None:
    error = {"error": {"message": "lost", "type": "server_error", "param": None, "code": "interrupted"}}

    def script(a: ScriptedAdmission, r: Record) -> None:
        a.chunk(r, 0, piece("one "))
        a.reply(r, error, http_status=500, status="interrupted", attempt="a1")

    admission.script = script
    text = client.post(CHAT, json={"messages": HELLO, "stream": True}).text
    lines = [json.loads(line.removeprefix("data: ")) for line in text.split("\n\n") if line]
    assert lines[-1] == error
    assert len(lines) == 2


def test_who_hangs_up_cancels(client: httpx.Client, admission: ScriptedAdmission) -> None:
    admission.script = lambda a, r: a.chunk(r, 0, piece("one ")) if r["stream"] else None
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json={"messages": HELLO}, timeout=1.0)
    with client.stream("POST", CHAT, json={"messages": HELLO, "stream": True}) as answer:
        next(answer.iter_lines())
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json={"messages": HELLO}, timeout=1.0, headers={"idempotency-key": "k-stays"})
    cancelled = admission.wait_for("Cancellation", 2)
    requests = admission.wait_for("Request", 3)
    assert [c["request_id"] for c in cancelled] == [r["request_id"] for r in requests[:2]]
    assert {c["reason"] for c in cancelled} == {"cancelled"}
    # One more call: whatever came before it in the journal has been seen when its request has.
    admission.script = echo
    client.post(CHAT, json={"messages": HELLO})
    admission.wait_for("Request", 4)
    assert len([name for name, _ in admission.seen if name == "Cancellation"]) == 2


def test_an_idempotency_key_makes_one_request(client: httpx.Client, admission: ScriptedAdmission) -> None:
    headers = {"idempotency-key": f"key-{time.time_ns()}"}
    answers = [client.post(CHAT, json={"messages": HELLO}, headers=headers) for _ in range(2)]
    assert len({a.headers["x-request-id"] for a in answers}) == 1
    assert all(r["repeatable"] for r in admission.wait_for("Request", 2))
    other = client.post(CHAT, json={"messages": HELLO, "max_tokens": 3}, headers=headers)
    assert (other.status_code, envelope(other)["type"]) == (422, "idempotency_error")


def test_concurrent_repeats_are_all_answered(client: httpx.Client, admission: ScriptedAdmission) -> None:
    headers = {"idempotency-key": f"many-{time.time_ns()}"}
    held: list[Record] = []

    def script(a: ScriptedAdmission, r: Record) -> None:
        held.append(r)
        if len(held) == 5:
            a.reply(r, completion("once"))

    admission.script = script
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: client.post(CHAT, json={"messages": HELLO}, headers=headers), range(5)))
    assert [a.json()["choices"][0]["message"]["content"] for a in answers] == ["once"] * 5


def test_a_call_ends_at_its_deadline(client: httpx.Client, admission: ScriptedAdmission) -> None:
    admission.script = silent
    began = time.monotonic()
    answer = client.post(CHAT, json={"messages": HELLO}, headers={"x-millrace-timeout-ms": "100"})
    assert (answer.status_code, envelope(answer)["code"]) == (504, "request_timeout")
    assert time.monotonic() - began < 8


def test_models_usage_and_metrics(client: httpx.Client, admission: ScriptedAdmission, parts: Parts) -> None:
    models = client.get("/v1/models").json()
    assert [(m["id"], m["embeds"]) for m in models["data"]] == [
        ("echo", False), ("smollm2-135m", False), ("wordllama-256", True)
    ]  # fmt: skip
    assert set(models["data"][0]) == {"id", "object", "created", "owned_by", "embeds"}
    client.post(CHAT, json={"messages": HELLO})
    text = client.get("/metrics").text
    assert (
        'gen_ai_server_request_duration_seconds_count{cache="miss",operation="chat.completions",status="200"}' in text
    )
    assert "millrace_gateway_waiting 0.0" in text
    assert envelope(client.get("/v1/usage"))["code"] == "service_unavailable"  # no Redis yet
    parts.start("redis")
    import redis

    live = redis.Redis(port=parts.settings.port("REDIS"))
    minute = int(time.time()) // 60 * 60
    for tenant, at, requests in (
        ("acme", minute, 2),
        ("acme", minute - 60, 3),
        ("acme", minute - 7200, 9),
        ("globex", minute, 4),
    ):
        counted = {"requests": requests, "input_tokens": 10, "output_tokens": 20, "cost_micros": 30}
        live.hset(f"usage:{tenant}:{at}", mapping=counted)
    mine = client.get("/v1/usage", params={"minutes": 10}).json()
    assert [(row["tenant"], row["requests"]) for row in mine["data"]] == [("acme", 5)]
    everyone = client.get("/v1/usage", headers={"authorization": "Bearer mr-admin-demo"}).json()
    assert {row["tenant"]: row["requests"] for row in everyone["data"]} == {"acme": 5, "globex": 4, "millrace": 0}
    assert everyone["total"]["requests"] == 9
    assert "lanes" not in mine["data"][0]
    batch_id = f"batch_{minute:032x}"
    for key in (f"acme/batch:{minute}", f"acme/standard:{minute - 60}", f"acme/{batch_id}"):
        live.hset(f"usage:{key}", mapping={"requests": 7, "input_tokens": 1, "output_tokens": 2, "cost_micros": 3})
    lanes = client.get("/v1/usage", params={"minutes": 10, "lanes": True}).json()["data"][0]["lanes"]
    assert {lane: sums["requests"] for lane, sums in lanes.items()} == {"interactive": 0, "standard": 7, "batch": 7}
    of_batch = client.get("/v1/usage", params={"batch_id": batch_id}).json()
    assert of_batch["total"] == {"requests": 7, "input_tokens": 1, "output_tokens": 2, "cost_micros": 3}
    # Of another tenant's batch nobody learns more than of one that never was.
    theirs = client.get("/v1/usage", params={"batch_id": batch_id}, headers={"authorization": "Bearer mr-globex-demo"})
    assert theirs.json()["total"]["requests"] == 0
    assert envelope(client.get("/v1/usage", params={"batch_id": "batch_x:0"}))["param"] == "batch_id"
    assert client.get("/v1/usage", params={"minutes": 0}).status_code == 400
    assert envelope(client.get("/v1/usage", params={"minutes": "x"}))["param"] == "minutes"


def test_a_new_configuration_is_live_within_seconds(
    client: httpx.Client, admission: ScriptedAdmission, parts: Parts, tmp_path: Path
) -> None:
    (tmp_path / "all.yaml").write_text(READER)
    late = {"authorization": "Bearer mr-late-key"}
    assert client.post(CHAT, json={"messages": HELLO}, headers=late).status_code == 401
    try:
        assert apply(parts, tmp_path).returncode == 0
        await_(lambda: client.post(CHAT, json={"messages": HELLO}, headers=late).status_code == 200, "live", 5)
        globex = client.post(CHAT, json={"messages": HELLO}, headers={"authorization": "Bearer mr-globex-demo"})
        assert globex.status_code == 401
        reader = {"authorization": "Bearer mr-acme-reader"}
        refused = client.post(CHAT, json={"messages": HELLO}, headers=reader)
        assert (refused.status_code, envelope(refused)["code"]) == (403, "insufficient_permissions")
        assert client.get("/v1/models", headers=reader).status_code == 200
    finally:
        assert apply(parts, CONFIG).returncode == 0
        await_(lambda: client.post(CHAT, json={"messages": HELLO}, headers=late).status_code == 401, "back", 5)


def test_a_restart_of_the_broker_is_survived(client: httpx.Client, admission: ScriptedAdmission, parts: Parts) -> None:
    parts.stop("kafka", kill=True)
    with ThreadPoolExecutor(1) as pool:
        # Queued while the broker is away, sent and answered when it is back.
        call = pool.submit(client.post, CHAT, json={"messages": HELLO})
        parts.start("kafka")
        answer = call.result(30)
    assert answer.status_code in (200, 503)
    await_(lambda: client.post(CHAT, json={"messages": HELLO}).status_code == 200, "answers again")
    await_(lambda: client.get("/healthz").status_code == 200, "healthy again")


def test_stopping_finishes_what_is_in_flight(
    client: httpx.Client, admission: ScriptedAdmission, gateway: Process
) -> None:
    held: list[Record] = []
    # Others are answered: a call that came just before the signal is in flight too, and would use up the drain's time.
    admission.script = lambda a, r: held.append(r) if b"the last one" in r["body"] else echo(a, r)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.post, CHAT, json={"messages": [{"role": "user", "content": "the last one"}]})
        await_(lambda: bool(held), "the call is in flight")
        gateway.popen.terminate()
        await_(lambda: client.post(CHAT, json={"messages": HELLO}).status_code == 503, "refuses new calls")
        assert client.get("/healthz").status_code == 503
        admission.reply(held[0], completion("finished"))
        assert call.result(10).json()["choices"][0]["message"]["content"] == "finished"
    assert gateway.popen.wait(10) == 0
    gateway.start()
    await_(lambda: healthy(str(client.base_url)), "gateway")
