"""/v1/responses as a chat, and the chat's answer as a response; read with the models of the `openai` SDK."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ingest import responses, results
from ingest.body import RESPONSES, parse
from ingest.envelope import ApiError
from ingest.responses import ResponseStream
from streams.body import BodyError
from streams.guard import guard_body
from streams.responses import chat_body
from tests.unit.test_batch_progress import result
from tests.unit.test_gateway_streaming import USAGE, body, chunk, reply
from tests.unit.world import T0, completion, engine, request, rows

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}


def test_a_string_is_one_message_and_all_else_has_its_place():
    asked = {
        "model": "m", "input": "hello", "instructions": "be brief", "max_output_tokens": 9, "temperature": 0,
        "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}, "verbosity": "low"},
        "tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}, "reasoning": {"effort": "low"},
        "store": False, "seed": 3, "metadata": {"k": "v"}, "stream": True, "truncation": "disabled",
    }  # fmt: skip
    function = {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
    assert chat_body(asked) == {
        "model": "m", "temperature": 0, "seed": 3, "metadata": {"k": "v"}, "stream": True, "max_tokens": 9,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "verbosity": "low", "tools": [{"type": "function", "function": function}], "reasoning_effort": "low",
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    }  # fmt: skip


def test_a_conversation_with_calls_is_what_a_chat_would_have_said():
    image = {"type": "input_image", "image_url": "data:x", "detail": "low"}
    items = [
        {"role": "developer", "content": "rules"},
        {"role": "user", "content": [{"type": "input_text", "text": "look"}, image]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "wait"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "two"}]},
    ]
    second = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    shown = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}]
    assert chat_body({"input": items})["messages"] == [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": shown},
        {"role": "assistant", "content": "wait", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "two"},
    ]


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": {"id": "c"}}, "conversation"),
        ({"background": True}, "background"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format"),
        ({"input": []}, "input"),
        ({"input": [5]}, "input[0]"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}, "input[0].content[0]"),
        ({"input": [{"content": "x"}]}, "input[0].role"),
        ({"instructions": 5}, "instructions"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"reasoning": "much"}, "reasoning"),
    ],
)
def test_what_is_not_served_is_refused_by_name(more: dict[str, Any], param: str):
    with pytest.raises(BodyError) as refused:
        chat_body({"input": "x", **more})
    assert refused.value.param == param
    with pytest.raises(ApiError) as shown:
        parse(orjson.dumps({"input": "x", **more}), RESPONSES)
    assert (shown.value.status, shown.value.param) == (400, param)


def whole(data: dict[str, Any], **asked: Any) -> Response:
    return Response.model_validate_json(responses.whole(orjson.dumps(data), "a-b", {"model": "m", **asked}))


def test_an_answer_is_a_response():
    said = whole(body("one two"), instructions="be brief", temperature=0.5)
    assert (said.id, said.output_text, said.status, said.model) == ("resp_ab", "one two", "incomplete", "m")
    assert said.incomplete_details is not None and said.incomplete_details.reason == "max_output_tokens"
    assert (said.instructions, said.temperature, said.store, said.created_at) == ("be brief", 0.5, False, 7)
    assert said.usage is not None and (said.usage.input_tokens, said.usage.output_tokens) == (3, 2)
    called = whole(body(None, tool_calls=[CALL], reasoning_content="hm"))
    assert [item.type for item in called.output] == ["reasoning", "function_call"]
    assert called.output[1].call_id == "c1" and called.output[1].arguments == '{"a":1}'  # type: ignore[union-attr]
    blocked = whole(guard_body("Not here.", "x"))
    assert (blocked.output_text, blocked.status, blocked.model) == ("Not here.", "completed", "from-security-guard")


def streamed(stream: ResponseStream, *pieces: bytes) -> list[dict[str, Any]]:
    data = [part for part in b"".join(pieces).split(b"\n\n") if part]
    events = []
    for number, part in enumerate(data):
        name, _, text = part.removeprefix(b"event: ").partition(b"\ndata: ")
        event = orjson.loads(text)
        assert event["type"] == name.decode() and event["sequence_number"] == number
        EVENT.validate_python(event)
        events.append(event)
    assert stream.ended
    return events


def test_a_stream_has_the_events_that_sdks_put_together():
    stream = ResponseStream("a-b", {"model": "m"})
    thought = {"delta": {"reasoning_content": "hm"}}
    pieces = [stream.chunk(chunk(0, "", **thought)), stream.chunk(chunk(1, "one ")), stream.chunk(chunk(2, "two"))]
    answer = body("one two three", reasoning_content="hm", tool_calls=[CALL, {**CALL, "id": "c2"}])
    events = streamed(stream, *pieces, stream.reply(reply(answer)))
    kinds = [event["type"].removeprefix("response.") for event in events]
    item = ["output_item.added", "content_part.added"]
    text_done = ["output_text.done", "content_part.done", "output_item.done"]
    assert kinds == [
        "created", "in_progress", *item, "reasoning_text.delta",
        "reasoning_text.done", "content_part.done", "output_item.done", *item, *["output_text.delta"] * 3, *text_done,
        *["output_item.added", "function_call_arguments.delta"] * 2,
        *["function_call_arguments.done", "output_item.done"] * 2, "incomplete",
    ]  # fmt: skip
    final = Response.model_validate(events[-1]["response"])
    assert (
        final.output_text
        == "one two three"
        == "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    )
    assert final.usage is not None and final.usage.total_tokens == USAGE["total_tokens"]
    assert orjson.loads(responses.whole(orjson.dumps(answer), "a-b", {"model": "m"}))["output"] == [
        {**item, "status": "completed"} if item["type"] == "function_call" else item
        for item in events[-1]["response"]["output"]
    ]


def test_a_stream_that_breaks_ends_with_an_error_that_sdks_raise():
    stream = ResponseStream("a-b", {})
    first = stream.chunk(chunk(0, "one"))
    broken = stream.chunk(chunk(1, "two", attempt="another"))
    *_, last = streamed(stream, first, broken)
    assert (last["type"], last["code"], last["error"]["code"]) == ("error", "interrupted", "interrupted")


def test_a_blocked_stream_says_why():
    stream = ResponseStream("a-b", {})
    events = streamed(stream, stream.reply(reply(guard_body("Not here.", "x"), "blocked")))
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Not here."


def test_admission_sees_a_chat_of_one_identity_with_any_other():
    e = engine(rules=[{"id": "p", "match": "a banned phrase", "stages": ["request"]}])
    asked = request() | {
        "endpoint": RESPONSES,
        "body": orjson.dumps({"model": "echo", "input": "hi", "temperature": 0}),
    }
    e.step("Request", asked, T0)
    (work,) = e.read_work()
    assert work["endpoint"] == "/v1/chat/completions"
    assert orjson.loads(work["body"])["messages"] == [{"role": "user", "content": "hi"}]
    e.step("Completion", completion(asked), T0 + 5)
    chat = request("hi", body={"temperature": 0})
    e.step("Request", chat, T0 + 6)
    assert rows(e)[chat["request_id"]]["cache"] == "hit"
    banned = asked | {"request_id": "r-banned", "body": orjson.dumps({"input": "a banned phrase", "model": "echo"})}
    e.step("Request", banned, T0 + 7)
    stored = asked | {"request_id": "r-stored", "body": orjson.dumps({"input": "x", "store": True, "model": "echo"})}
    e.step("Request", stored, T0 + 8)
    assert (rows(e)["r-banned"]["status"], rows(e)["r-stored"]["status"]) == ("blocked", "refused")


def test_a_line_of_a_batch_has_a_response():
    line = orjson.loads(results.outcome(result(1, body=orjson.dumps(body("said"))), RESPONSES).text)
    assert Response.model_validate(line["response"]["body"]).output_text == "said"
