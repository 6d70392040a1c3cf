"""What an OpenAI-compatible upstream may answer, and what is made of it: shapes, tokens, whose fault an error is."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.wire import Codec
from tests.unit.test_worker_answer import Scripted, give, work
from workers import outcome
from workers.engines import Job
from workers.engines.upstream import MOST_TOKENS, Stream, bound, counts_of, refusal, settle, whole
from workers.outcome import Counts, Fault, unavailable

PROMPT = {"messages": [{"role": "user", "content": "hé"}]}
ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
# Close enough to a chunk to come past the first check, wrong anywhere below.
DELTA = st.fixed_dictionaries(
    {}, optional={"content": ANY, "role": ANY, "tool_calls": ANY | st.lists(ANY), "reasoning": ANY, "index": ANY}
)
CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "index": st.integers(-1, 2) | ANY,
        "delta": DELTA | ANY,
        "message": DELTA | ANY,
        "text": ANY,
        "finish_reason": ANY,
        "logprobs": ANY | st.dictionaries(st.sampled_from(["content", "refusal"]), ANY),
    },
)
CHUNK = st.fixed_dictionaries(
    {},
    optional={"choices": st.lists(CHOICE | ANY, max_size=3) | ANY, "usage": ANY, "error": ANY, "id": ANY, "data": ANY},
)


def job(stream: bool = True, **fields: Any) -> Job:
    limits = {"max_input_tokens": 0, "max_output_tokens": 0, **fields}
    return Job("r1", "/v1/chat/completions", "m", PROMPT, stream, **limits)


def read(chunks: list[Any], *, done: bool = True) -> list[Any]:
    """A scripted engine's steps, as the openai engine makes them of these chunks."""
    stream, steps = Stream(job()), []
    try:
        for chunk in chunks:
            steps.append(stream.take(orjson.dumps(chunk)))
        stream.done = done
        steps.append(stream.end()[0])
    except Fault as fault:
        steps.append(fault)
    except ValueError:
        steps.append(unavailable("nonsense", stream.counts()))
    return steps


def said(text: str, finish: str | None = None, **top: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **top}


@given(st.lists(CHUNK | ANY, max_size=4), st.booleans())
def test_no_stream_however_odd_is_a_failure_of_ours(chunks: list[Any], announce: bool) -> None:
    ending, _ = give(work(stream=True, reply_to="", announce=announce), Scripted(*read(chunks)))
    assert ending.outcome in ("ok", "unavailable", "invalid")
    record: Any = outcome.completion(
        work(), ending, attempt="a", worker="w", engine=("", "", ""), started=1, finished=2
    )
    assert Codec.offline().encode("Completion", record)


@given(CHUNK | ANY)
def test_no_answer_however_odd_is_a_failure_of_ours(body: Any) -> None:
    try:
        step: Any = whole(orjson.dumps(body), job(stream=False))[0]
    except Fault as fault:
        step = fault
    except ValueError:
        step = unavailable("nonsense")
    assert give(work(), Scripted(step))[0].outcome in ("ok", "unavailable", "invalid")


def test_an_answer_nested_beyond_reason_is_none() -> None:
    deep = b'{"choices":[{"message":{"x":' + b"[" * 300 + b"]" * 300 + b"}}]}"
    with pytest.raises(ValueError, match="nested"):
        whole(deep, job(stream=False))
    many = {"choices": [{"message": {"content": "x", "parts": [{"a": [1]} for _ in range(300)]}}]}
    assert whole(orjson.dumps(many), job(stream=False))[0].counts.output_tokens > 0


@pytest.mark.parametrize(
    "body", [b"{}", b"[]", b'{"choices": []}', b'{"choices": [1]}', b'{"choices": {}}', b"null", b""]
)
def test_an_answer_without_choices_is_none(body: bytes) -> None:
    with pytest.raises(ValueError):
        whole(body, job(stream=False))


def test_a_stream_ends_with_done_or_with_a_reason_for_each_choice() -> None:
    assert read([said("a"), said("", "stop")], done=False)[-1].counts == Counts(19, 1)
    assert read([said("a")], done=True)[-1].counts == Counts(19, 1)
    for chunks in ([], [{"choices": []}], [said("a"), said("b")]):
        fault = read(chunks, done=False)[-1]
        assert fault.refusal.outcome == "unavailable" and fault.counts == Counts(0, len(chunks) if chunks[1:] else 0)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"message": "no", "code": 400}, "invalid"),
        ({"message": "no", "type": "invalid_request_error"}, "invalid"),
        ({"message": "no", "type": "BadRequestError", "code": "context_length_exceeded"}, "invalid"),
        ({"message": "no", "code": 500, "type": "invalid_request_error"}, "unavailable"),
        ({"message": "no", "type": "server_error"}, "unavailable"),
        ("overloaded", "unavailable"),
    ],
)
def test_an_error_in_place_of_an_answer_tells_whose_fault_it_is(error: Any, expected: str) -> None:
    ending, _ = give(work(stream=True), Scripted(*read([{"error": error}])))
    assert ending.outcome == expected
    if expected == "invalid":
        assert ending.http_status == 400 and orjson.loads(ending.body) == {"error": error}
    with pytest.raises(Fault) as raised:
        whole(orjson.dumps({"error": error}), job(stream=False))
    assert raised.value.refusal.outcome == expected
    ending, _ = give(work(stream=True), Scripted(*read([said("a"), {"error": error}])))
    assert ending.outcome == "interrupted" and ending.counts.output_tokens == 1


def test_an_error_of_null_is_none() -> None:
    assert read([said("a", error=None), said("", "stop")])[-1].counts.output_tokens == 1


@pytest.mark.parametrize(
    "status", [401, 402, 403, 404, 405, 408, 409, 410, 415, 421, 425, 429, 500, 502, 503, 529, 302]
)
def test_what_the_caller_cannot_mend_may_be_tried_elsewhere(status: int) -> None:
    refused = refusal(status, '{"error": {"message": "secret detail", "code": "c"}}').refusal
    assert (refused.outcome, refused.http_status) == ("unavailable", 503) and "secret" not in refused.message


@pytest.mark.parametrize("status", [400, 404])
def test_a_model_that_is_not_loaded_is_the_pools_fault(status: int) -> None:
    raw = '{"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}'
    assert refusal(status, raw).refusal.outcome == "unavailable"


def test_a_context_that_does_not_fit_passes_to_the_caller() -> None:
    error = {"error": {"message": "too long", "code": "context_length_exceeded", "param": "messages", "odd": 1}}
    refused = refusal(400, orjson.dumps(error).decode()).refusal
    assert (refused.outcome, refused.http_status, orjson.loads(refused.body)) == ("invalid", 400, error)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ('{"object": "error", "message": "bad value", "code": 400}', "bad value"),
        ('{"detail": [{"loc": ["body"]}]}', '[{"loc":["body"]}]'),
        ('{"error": "odd"}', "odd"),
        ("<html>", "<html>"),
        ("[" * 500 + "]" * 500, "["),
        ("", "The upstream answered 422."),
    ],
)
def test_a_refusal_of_another_shape_is_put_into_openais(raw: str, message: str) -> None:
    refused = refusal(422, raw).refusal
    error = orjson.loads(refused.body)["error"]
    assert (refused.outcome, refused.http_status, error["code"]) == ("invalid", 422, "upstream_refused")
    assert error["message"].startswith(message) and len(error["message"]) <= 1_000


@pytest.mark.parametrize(
    "usage", [None, 5, "x", [], {}, {"prompt_tokens": -1, "completion_tokens": "7"}, {"prompt_tokens": 10**15}]
)
def test_tokens_nobody_counted_are_bounded_and_said_to_be_so(usage: Any) -> None:
    counts, estimated = settle(usage, job(), 7)
    assert (counts, estimated) == (Counts(3 + 16, 7), True)
    assert settle(usage, job(max_input_tokens=10, max_output_tokens=4), 7)[0] == Counts(10, 4)
    final = read([{**said("a"), "usage": usage}, said("", "stop")])[-1]
    assert final.body["usage"] == {
        "prompt_tokens": 19,
        "completion_tokens": 1,
        "total_tokens": 20,
        "estimated": True,
    }


@given(st.integers(0, 2 * MOST_TOKENS), st.integers(0, 2 * MOST_TOKENS), st.integers(0, 99), st.integers(0, 99))
def test_details_are_parts_of_their_wholes(asked: int, answered: int, cached: int, reasoning: int) -> None:
    usage = {"prompt_tokens": asked, "completion_tokens": answered}
    usage |= {"prompt_tokens_details": {"cached_tokens": cached}}  # type: ignore[dict-item]
    usage |= {"completion_tokens_details": {"reasoning_tokens": reasoning}}  # type: ignore[dict-item]
    counts = counts_of(usage)
    assert counts.cached_tokens <= counts.input_tokens <= MOST_TOKENS
    assert counts.reasoning_tokens <= counts.output_tokens <= MOST_TOKENS


@given(st.text(), st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_bound_never_exceeds_what_was_reserved(text: str, answer_bytes: int, most_in: int, most_out: int) -> None:
    asked = Job("r", "/v1/completions", "m", {"prompt": [text, [1, 2]]}, False, most_in, most_out)
    counts = bound(asked, answer_bytes)
    assert counts.input_tokens == min(len(text.encode()) + 2 + 16, most_in or 1_000)
    assert counts.output_tokens == min(answer_bytes, most_out or answer_bytes)
