from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.streaming import Stream
from streams.guard import guard_body

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def chunk(sequence: int, text: str, attempt: str = "a", **choice: Any) -> dict[str, Any]:
    data = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **choice}],
    }
    return {"attempt": attempt, "sequence": sequence, "data": orjson.dumps(data)}


def body(content: str | None, **message: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion",
        "created": 7,
        "model": "m",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": "length"}
        ],
        "usage": USAGE,
    }


def reply(data: dict[str, Any], status: str = "completed", attempt: str = "a") -> dict[str, Any]:
    return {"status": status, "attempt": attempt, "body": orjson.dumps(data)}


def events(data: bytes) -> list[Any]:
    lines = [line.removeprefix(b"data: ") for line in data.split(b"\n\n") if line]
    return ["[DONE]" if line == b"[DONE]" else orjson.loads(line) for line in lines]


def text(shown: list[Any]) -> str:
    return "".join(
        c["delta"].get("content") or "" for e in shown if e != "[DONE]" for c in e["choices"] if "delta" in c
    )


def test_chunks_pass_as_they_are_and_the_reply_ends_them() -> None:
    stream = Stream(include_usage=True)
    first = chunk(0, "Hello ")
    assert stream.chunk(first) == b"data: " + first["data"] + b"\n\n"
    stream.chunk(chunk(1, "world"))
    end = events(stream.reply(reply(body("Hello world"))))
    assert [e if e == "[DONE]" else e["choices"] for e in end] == [
        [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "length"}],
        [],
        "[DONE]",
    ]
    assert end[1]["usage"] == USAGE
    assert stream.ended


def test_a_finish_and_usage_that_were_shown_are_not_repeated() -> None:
    stream = Stream(include_usage=True)
    stream.chunk(chunk(0, "Hi"))
    stream.chunk(chunk(1, "", finish_reason="stop"))
    usage = {"id": "c1", "choices": [], "usage": USAGE}
    assert stream.chunk({"attempt": "a", "sequence": 2, "data": orjson.dumps(usage)})
    assert stream.reply(reply(body("Hi"))) == b"data: [DONE]\n\n"


def test_usage_nobody_asked_for_is_not_shown() -> None:
    stream = Stream(include_usage=False)
    assert stream.chunk({"attempt": "a", "sequence": 0, "data": orjson.dumps({"choices": [], "usage": USAGE})}) == b""
    assert all(e == "[DONE]" or e["choices"] for e in events(stream.reply(reply(body("x")))))


@pytest.mark.parametrize("shown", [0, 1, 2, 3])
def test_what_was_not_shown_comes_with_the_reply(shown: int) -> None:
    words = ["one ", "two ", "three"]
    stream = Stream(include_usage=False)
    out = b"".join(stream.chunk(chunk(i, words[i])) for i in range(shown))
    out += stream.reply(reply(body("one two three")))
    assert text(events(out)) == "one two three"
    assert events(out)[-1] == "[DONE]"


def test_a_gap_is_closed_by_the_reply() -> None:
    stream = Stream(include_usage=False)
    out = stream.chunk(chunk(0, "a")) + stream.chunk(chunk(2, "c")) + stream.chunk(chunk(3, "d"))
    out += stream.reply(reply(body("abcd")))
    assert text(events(out)) == "abcd"


def test_chunks_delivered_twice_are_shown_once() -> None:
    stream = Stream(include_usage=False)
    out = b"".join(stream.chunk(chunk(i, t)) for i, t in ((0, "a"), (1, "b"), (0, "a"), (1, "b"), (2, "c")))
    assert text(events(out)) == "abc"


def test_who_joins_in_the_middle_gets_it_all_from_the_reply() -> None:
    stream = Stream(include_usage=False)
    assert stream.chunk(chunk(4, "late")) == b""
    shown = events(stream.reply(reply(body("early late"))))
    assert text(shown) == "early late"
    assert shown[0]["choices"][0]["delta"]["role"] == "assistant"


def test_another_attempt_ends_the_stream_with_an_error_and_no_done() -> None:
    stream = Stream(include_usage=False)
    stream.chunk(chunk(0, "a"))
    (error,) = events(stream.chunk(chunk(0, "b", attempt="other")))
    assert error["error"]["code"] == "interrupted"
    assert set(error["error"]) == {"message", "type", "param", "code"}
    assert stream.ended


def test_a_reply_of_another_attempt_ends_the_stream_with_an_error() -> None:
    stream = Stream(include_usage=False)
    stream.chunk(chunk(0, "a"))
    (error,) = events(stream.reply(reply(body("b"), attempt="other")))
    assert error["error"]["code"] == "interrupted"


@pytest.mark.parametrize("status", ["failed", "interrupted", "expired"])
def test_a_failure_after_a_token_is_an_error_event_without_done(status: str) -> None:
    stream = Stream(include_usage=True)
    stream.chunk(chunk(0, "a"))
    failure = {"error": {"message": "gone", "type": "server_error", "param": None, "code": "worker_lost"}}
    assert events(stream.reply(reply(failure, status))) == [failure]


@pytest.mark.parametrize("shown", [0, 2])
def test_a_blocked_answer_says_its_message_then_stops_from_the_guard(shown: int) -> None:
    stream = Stream(include_usage=True)
    for i in range(shown):
        stream.chunk(chunk(i, "x"))
    message, stop, done = events(stream.reply(reply(guard_body("Not allowed."), "blocked")))
    assert message["model"] == stop["model"] == "from-security-guard"
    assert message["choices"][0]["delta"]["content"] == "Not allowed."
    assert stop["choices"][0]["finish_reason"] == "stop"
    assert set(stop["usage"].values()) == {0}
    assert done == "[DONE]"


def test_tool_calls_and_further_fields_of_a_whole_answer_become_deltas() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    data = body(None, tool_calls=[call], reasoning_content="because")
    first = events(Stream(include_usage=False).reply(reply(data, attempt="")))[0]
    assert first["choices"][0]["delta"] == {
        "role": "assistant",
        "tool_calls": [{"index": 0, **call}],
        "reasoning_content": "because",
    }


def test_several_choices_each_end() -> None:
    data = body("a")
    data["choices"].append({"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "stop"})
    shown = events(Stream(include_usage=False).reply(reply(data)))
    ends = {c["index"]: c["finish_reason"] for e in shown[:-1] for c in e["choices"] if c["finish_reason"]}
    assert ends == {0: "length", 1: "stop"}


def test_completions_stream_text() -> None:
    data = {
        "id": "c",
        "object": "text_completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "text": "abc", "finish_reason": "stop", "logprobs": None}],
        "usage": USAGE,
    }
    stream = Stream(include_usage=False)
    piece = {"object": "text_completion", "choices": [{"index": 0, "text": "a", "finish_reason": None}]}
    stream.chunk({"attempt": "a", "sequence": 0, "data": orjson.dumps(piece)})
    rest, end, done = events(stream.reply(reply(data)))
    assert rest["object"] == "text_completion"
    assert rest["choices"][0]["text"] == "bc"
    assert end["choices"][0] == {"index": 0, "text": "", "logprobs": None, "finish_reason": "stop"}
    assert done == "[DONE]"
