"""The same `openai` SDK at llama.cpp's own server and at Millrace before it: what it is given must be the same.

Gateway, worker and llama.cpp's server are processes; admission is the memory engine. A rule holds back what may become
a match, so pieces may be cut in other places; put together they must be the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import orjson
import pytest
import yaml
from memory_admission import MemoryAdmission
from parts import Parts, await_
from processes import Process, apply
from worker_world import worker

from schemas.wire import Codec
from tests.llama_server import CONTEXT_TOKENS, MODEL, LlamaServer
from workers.assemble import Assembly

Body = dict[str, Any]
# What may be the beginning of the key is held back; no answer here has its first letter, so pieces stay as they are.
KEY = "~up-0123456789"
# What each side says of itself: ids are random, and times differ.
OWN = ("id", "created", "object", "timings")
GREEDY: Body = {"model": MODEL, "temperature": 0, "seed": 7}


def tenant(name: str, **more: Any) -> Body:
    return {"keys": [{"name": "k", "key": f"mr-{name}"}], "limits": [], **more}


def document(url: str) -> Body:
    rules = [
        {"id": "held", "match": "a phrase that nobody will ever say here", "stages": ["response"], "action": "block"},
        {"id": "key", "detect": "secret", "stages": ["response"], "action": "mask"},
    ]
    pool = {"engine": "openai", "base_url": url, "model": MODEL, "precision": "q4_1", "concurrency": 4}
    return {
        "tenants": {"bare": tenant("bare"), "ruled": tenant("ruled", moderation="rules")},
        "pools": {"up": {**pool, "api_key_env": "UP_KEY"}},
        "models": {MODEL: {"route": ["up"]}},
        "rule_sets": {"rules": rules},
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaServer]:
    held = LlamaServer(tmp_path_factory.mktemp("llama") / "server.log")
    yield held
    held.stop()


@pytest.fixture(scope="module")
def admission(parts: Parts, kafka: str, codec: Codec, server: LlamaServer) -> Iterator[MemoryAdmission]:
    held = MemoryAdmission(kafka, codec)
    folder = parts.settings.home / "config"
    folder.mkdir()
    (folder / "all.yaml").write_text(yaml.safe_dump(document(server.url)))
    done = apply(parts, folder)
    assert done.returncode == 0, done.stderr
    yield held
    held.close()


@pytest.fixture(scope="module")
def url(parts: Parts, admission: MemoryAdmission) -> Iterator[str]:
    base = f"http://127.0.0.1:{parts.settings.port('HTTP')}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UP_KEY", KEY)
        gateway = Process(parts, "gateway", "ingest.gateway")
        try:
            with worker(parts):
                await_(lambda: _healthy(base), "gateway")
                yield f"{base}/v1"
        finally:
            gateway.stop()


def _healthy(base: str) -> bool:
    try:
        return httpx.get(base + "/healthz").status_code == 200
    except httpx.HTTPError:
        return False


@pytest.fixture(params=["bare", "ruled"])
def client(request: pytest.FixtureRequest, url: str) -> Iterator[openai.OpenAI]:
    headers = {"x-millrace-cache": "off"}
    with openai.OpenAI(
        base_url=url, api_key=f"mr-{request.param}", max_retries=0, timeout=60, default_headers=headers
    ) as made:
        yield made


@pytest.fixture(scope="module")
def direct(server: LlamaServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.url, api_key=KEY, max_retries=0, timeout=60) as made:
        yield made


def user(text: str) -> Body:
    return {"role": "user", "content": text}


def thought(asked: str, thinking: str, said: str) -> list[Body]:
    return [user(asked), {"role": "assistant", "reasoning_content": thinking, "content": said}]


def called(i: int, city: str, days: int) -> list[Body]:
    function = {"name": "weather", "arguments": orjson.dumps({"city": city, "days": days}).decode()}
    call = {"id": f"c{i}", "type": "function", "function": function}
    return [
        user(f"What is the weather in {city} for {days} days?"),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{i}", "content": "Sunny."},
        {"role": "assistant", "content": "It will be sunny."},
    ]


SCHEMA: Body = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "days": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "the weather", "parameters": SCHEMA}}
PARIS = user("What is the weather in Paris for 4 days?")
FRANCE = [user("What is the capital of France?")]
CHATS: dict[str, Body] = {
    "plain": {"messages": FRANCE, "max_tokens": 40},
    "max_completion_tokens": {"messages": FRANCE, "max_completion_tokens": 9},
    "other scripts": {"messages": [user("Write: 日本語 é 🦀 — again and again.")], "max_tokens": 40},
    "stop": {"messages": [user("Count from one to ten in words.")], "max_tokens": 60, "stop": [".", "\n"]},
    "logprobs": {"messages": FRANCE, "max_tokens": 8, "logprobs": True, "top_logprobs": 3},
    "logit_bias": {"messages": FRANCE, "max_tokens": 8, "logit_bias": {"260": -100}},
    "two choices": {"messages": FRANCE, "max_tokens": 12, "n": 2, "temperature": 1.0},
    "schema": {
        "messages": [PARIS],
        "max_tokens": 80,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}},
    },
    "object": {"messages": [PARIS], "max_tokens": 120, "response_format": {"type": "json_object"}},
    "tools": {
        "messages": [*called(1, "Berlin", 2), *called(2, "Madrid", 3), PARIS],
        "max_tokens": 60,
        "tools": [TOOL],
        "tool_choice": "required",
    },
    "tools refused": {"messages": [PARIS], "max_tokens": 20, "tools": [TOOL], "tool_choice": "none"},
    "reasoning": {
        "messages": [
            *thought("What is 2 plus 3?", "2 plus 3 is 5.", "5"),
            *thought("What is 4 plus 4?", "4 plus 4 is 8.", "8"),
            user("What is 1 plus 3?"),
        ],
        "max_tokens": 60,
    },
    # No field of OpenAI's: llama.cpp obeys, so it has come there.
    "a grammar": {"messages": FRANCE, "max_tokens": 20, "grammar": 'root ::= "Paris" | "Rome"', "min_p": 0.1},
}


def ask(client: openai.OpenAI, body: Body, endpoint: str = "/chat/completions") -> Body:
    """The whole answer, all fields, but for what each side says of itself."""
    answer = client.post(endpoint, body={**GREEDY, **body}, cast_to=httpx.Response)
    return alike(orjson.loads(answer.content))


def alike(body: Body) -> Body:
    kept = {k: v for k, v in body.items() if k not in OWN}
    for choice in kept["choices"]:
        for call in (choice.get("message") or {}).get("tool_calls") or ():
            assert call.pop("id")
    return kept


def chunks(client: openai.OpenAI, body: Body, usage: bool = True) -> list[Body]:
    asked = {"stream": True, **({"stream_options": {"include_usage": True}} if usage else {})}
    completions = client.completions if "prompt" in body else client.chat.completions
    named = {"model": MODEL, "prompt" if "prompt" in body else "messages": body.get("prompt") or body["messages"]}
    rest = {k: v for k, v in {**GREEDY, **body, **asked}.items() if k not in (*named, "stream")}
    streamed = completions.create(**named, stream=True, extra_body=rest)  # type: ignore[call-overload]
    return [chunk.to_dict() for chunk in streamed]


def put_together(streamed: list[Body]) -> Body:
    """What the SDK's user makes of the chunks: the same rules as for any upstream's."""
    made = Assembly()
    for chunk in streamed:
        made.add(chunk)
    return alike(made.body({}))


def ends(streamed: list[Body]) -> list[tuple[int, str]]:
    return [(c["index"], c["finish_reason"]) for chunk in streamed for c in chunk["choices"] if c.get("finish_reason")]


@pytest.mark.parametrize("case", CHATS)
def test_a_whole_answer_is_the_servers(client: openai.OpenAI, direct: openai.OpenAI, case: str) -> None:
    assert ask(client, CHATS[case]) == ask(direct, CHATS[case])


@pytest.mark.parametrize("case", CHATS)
def test_a_stream_is_the_servers(client: openai.OpenAI, direct: openai.OpenAI, case: str) -> None:
    ours, theirs = chunks(client, CHATS[case]), chunks(direct, CHATS[case])
    assert put_together(ours) == put_together(theirs)
    assert sorted(ends(ours)) == sorted(ends(theirs))
    assert ours[-1]["usage"] == theirs[-1]["usage"] and not ours[-1]["choices"]
    assert len({chunk["id"] for chunk in ours}) == 1
    first = {c["index"]: c["delta"].get("role") for chunk in reversed(ours) for c in chunk["choices"]}
    assert set(first.values()) == {"assistant"}


def test_pieces_come_one_by_one(url: str, direct: openai.OpenAI) -> None:
    with openai.OpenAI(base_url=url, api_key="mr-bare", max_retries=0) as client:
        said = [
            [
                c["delta"]["content"]
                for chunk in chunks(side, CHATS["plain"])
                for c in chunk["choices"]
                if c["delta"].get("content")
            ]
            for side in (client, direct)
        ]
    assert said[0] == said[1] and len(said[0]) > 5


def test_the_answers_are_what_the_cases_mean(direct: openai.OpenAI) -> None:
    """A case that the model did not follow would compare nothing."""
    answers = {case: ask(direct, body) for case, body in CHATS.items()}
    message = {case: answer["choices"][0]["message"] for case, answer in answers.items()}
    assert answers["stop"]["choices"][0]["finish_reason"] == "stop"
    assert len(answers["logprobs"]["choices"][0]["logprobs"]["content"]) == 8
    assert len(answers["two choices"]["choices"]) == 2
    assert orjson.loads(message["schema"]["content"]).keys() == {"city", "days"}
    assert answers["tools"]["choices"][0]["finish_reason"] == "tool_calls"
    function = message["tools"]["tool_calls"][0]["function"]
    assert function["name"] == "weather" and orjson.loads(function["arguments"]).keys() == {"city", "days"}
    assert message["reasoning"]["reasoning_content"] and message["reasoning"]["content"]
    assert message["a grammar"]["content"] in ("Paris", "Rome")


@pytest.mark.parametrize("case", ["tools", "schema"])
def test_what_is_streamed_is_what_is_said_whole(client: openai.OpenAI, case: str) -> None:
    whole, streamed = ask(client, CHATS[case])["choices"], put_together(chunks(client, CHATS[case]))["choices"]
    assert [c["finish_reason"] for c in whole] == [c["finish_reason"] for c in streamed]
    for name in ("content", "tool_calls"):
        assert [c["message"].get(name) or None for c in whole] == [c["message"].get(name) or None for c in streamed]


def test_deltas_of_a_tool_call(client: openai.OpenAI, direct: openai.OpenAI) -> None:
    seen = [[call for c in chunks(side, CHATS["tools"]) for call in tool_deltas(c)] for side in (client, direct)]
    for deltas in seen:
        assert {d["index"] for d in deltas} == {0}
        assert [bool(d.get("id")) for d in deltas] == [True] + [False] * (len(deltas) - 1)
        assert deltas[0]["type"] == "function" and len(deltas) > 3
        assert [d["function"]["name"] for d in deltas if d["function"].get("name")] == ["weather"]
    pieces = ["".join(d["function"].get("arguments") or "" for d in deltas) for deltas in seen]
    assert pieces[0] == pieces[1] and orjson.loads(pieces[0]) == {"city": "Paris", "days": 4}


def tool_deltas(chunk: Body) -> list[Body]:
    return [call for c in chunk["choices"] for call in c["delta"].get("tool_calls") or ()]


COMPLETIONS: dict[str, Body] = {
    "plain": {"prompt": "Once upon a time", "max_tokens": 30},
    "logprobs": {"prompt": "Once upon a time", "max_tokens": 6, "logprobs": 2},
    "stop": {"prompt": "One, two, three, four,", "max_tokens": 40, "stop": " ten"},
}


@pytest.mark.parametrize("case", COMPLETIONS)
def test_completions_too(client: openai.OpenAI, direct: openai.OpenAI, case: str) -> None:
    body = COMPLETIONS[case]
    assert ask(client, body, "/completions") == ask(direct, body, "/completions")
    ours, theirs = chunks(client, body), chunks(direct, body)
    assert put_together(ours) == put_together(theirs) and ends(ours) == ends(theirs)


def test_usage_is_shown_only_where_it_was_asked_for(client: openai.OpenAI) -> None:
    streamed = chunks(client, CHATS["plain"], usage=False)
    assert streamed and all(chunk["choices"] and not chunk.get("usage") for chunk in streamed)


MISTAKES: dict[str, Body] = {
    "too long": {"messages": [user("word " * 2 * CONTEXT_TOKENS)]},
    "schema": {
        "messages": FRANCE,
        "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}},
    },
    "format": {"messages": FRANCE, "response_format": {"type": "nonsense"}},
    "tool_choice": {"messages": FRANCE, "tools": [TOOL], "tool_choice": "sometimes"},
    "type": {"messages": FRANCE, "temperature": "hot"},
    "choices": {"messages": FRANCE, "n": 99},
}


def refusal(call: Callable[[], Any]) -> tuple[int, Body]:
    with pytest.raises(openai.APIStatusError) as caught:
        call()
    return caught.value.status_code, dict(caught.value.response.json()["error"])


@pytest.mark.parametrize("case", MISTAKES)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_servers(client: openai.OpenAI, direct: openai.OpenAI, case: str, stream: bool) -> None:
    body = {"max_tokens": 8, **MISTAKES[case], "stream": stream}
    ours, theirs = refusal(lambda: ask(client, body)), refusal(lambda: ask(direct, body))
    assert ours[0] == theirs[0] == 400
    assert ours[1] == theirs[1]


def test_every_completion_says_what_made_it(client: openai.OpenAI, admission: MemoryAdmission) -> None:
    before = len(admission.completions)
    ask(client, CHATS["plain"])
    (record,) = admission.completions[before:]
    made_by = [record[name] for name in ("model", "model_version", "precision", "engine")]
    assert made_by == [MODEL, MODEL, "q4_1", "openai"]
