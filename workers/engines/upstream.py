"""What an OpenAI-compatible server answered, judged: its shape, its tokens, and whose fault an error is. Pure.

Nothing an upstream sends is believed: an answer of another shape is the pool's fault (the next pool may do better), and
tokens that it does not count, or cannot have counted, are bounded by what was asked and answered.
"""

from __future__ import annotations

from typing import Annotated, Any
from typing import Final as Constant

import msgspec
import orjson

from workers.engines import Final, Job, Piece
from workers.outcome import NO_TOKENS, Counts, Fault, Refusal, error_body, unavailable

# What a caller can mend: the request itself. All else of a 4xx is about our credentials, our credit, our address, a
# model that is not loaded there, or a busy upstream: another pool may answer.
CALLERS: Constant = frozenset({400, 413, 422, 451})
CALLERS_TYPES: Constant = frozenset({"invalid_request_error", "BadRequestError"})
UNKNOWN_MODEL: Constant = "model_not_found"
# Far above the context of any model, and within the records' integers.
MOST_TOKENS: Constant = 100_000_000
MESSAGE_CHARS: Constant = 1_000
# orjson writes 254 levels; answers have about ten.
MOST_LEVELS: Constant = 100

_Index = Annotated[int, msgspec.Meta(ge=0, le=1_023)]


class _Said(msgspec.Struct):
    """A message or a delta, as far as its shape matters here."""

    role: str | None = None
    tool_calls: list[dict[str, Any]] | None = None


class _Choice(msgspec.Struct):
    index: _Index = 0
    delta: _Said | None = None
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: dict[str, list[Any] | None] | None = None


class _Shape(msgspec.Struct):
    choices: list[_Choice] | None = None


def parsed(raw: bytes) -> dict[str, Any]:
    """A chunk or an answer. Raises ValueError if it is not JSON, or its choices are of another shape."""
    body = _loads(raw)
    if not isinstance(body, dict):
        raise ValueError("not an object")
    msgspec.convert(body, _Shape)
    return body


def _loads(raw: bytes | str) -> Any:
    value, level = orjson.loads(raw), 0
    opening = raw.count("{") + raw.count("[") if isinstance(raw, str) else raw.count(b"{") + raw.count(b"[")
    inner = [value] if opening > MOST_LEVELS else []
    while inner:
        inner = [v for held in inner for v in _children(held)]
        level += 1
        if level > MOST_LEVELS:
            raise ValueError("nested too deeply")
    return value


def _children(value: Any) -> list[Any]:
    held = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [v for v in held if isinstance(v, dict | list)]


def text_bytes(value: Any) -> int:
    """UTF-8 bytes of all generated text in a choice: no token is shorter than a byte.

    Raises ValueError where an index is none.
    """
    if isinstance(value, str):
        return len(value.encode(errors="replace"))
    if isinstance(value, dict):
        if not isinstance(value.get("index", 0), int):
            raise ValueError("an index that is no number")
        skipped = ("role", "finish_reason", "logprobs", "id", "type", "index")
        return sum(text_bytes(v) for k, v in value.items() if k not in skipped)
    return sum(map(text_bytes, value)) if isinstance(value, list) else 0


def whole(raw: bytes, job: Job) -> tuple[Final, bool]:
    """The answer to a call without a stream, and whether tokens are estimated.

    Raises Fault for an error in its place, ValueError if it is none.
    """
    body = parsed(raw)
    if body.get("error"):
        raise broke_off(body, NO_TOKENS)
    answers = body.get("choices", body.get("data"))
    if not isinstance(answers, list) or not answers or not all(isinstance(a, dict) for a in answers):
        raise ValueError("no choices")
    counts, estimated = settle(body.get("usage"), job, sum(map(text_bytes, body.get("choices") or ())))
    return Final({**body, "usage": usage_of(counts)} if estimated else body, counts), estimated


class Stream:
    """What has come of a streamed answer."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._usage: Any = None
        self._chunks = 0
        self._bytes = 0
        self._open: dict[int, bool] = {}
        self.done = False

    def take(self, data: bytes) -> Piece:
        """A chunk. Raises Fault for an error in its place, ValueError if it is none."""
        chunk = parsed(data)
        if chunk.get("error"):
            raise broke_off(chunk, self.counts())
        if chunk.get("usage") is not None:
            self._usage = chunk["usage"]
        choices = chunk.get("choices") or []
        size = sum(map(text_bytes, choices))
        for choice in choices:
            index = choice.get("index", 0)
            self._open[index] = self._open.get(index, True) and not choice.get("finish_reason")
        self._bytes += size
        self._chunks += size > 0
        return Piece({**chunk, "choices": choices}, self.counts())

    def counts(self) -> Counts:
        """What is proven so far: what the upstream counted, or else a token for each chunk with text."""
        counts = counts_of(self._usage)
        limit = self._job.output_limit() or self._chunks
        return counts if counts.output_tokens or counts.input_tokens else Counts(0, min(self._chunks, limit))

    def end(self) -> tuple[Final, bool]:
        """The end, and whether tokens are estimated. Raises Fault if the answer is not whole."""
        if not self._open or (not self.done and any(self._open.values())):
            raise unavailable("The upstream's answer broke off.", self.counts())
        counts, estimated = settle(self._usage, self._job, self._bytes)
        return Final({"usage": usage_of(counts) if estimated else self._usage}, counts), estimated


def refusal(status: int, raw: str, counts: Counts = NO_TOKENS) -> Fault:
    """What an error status means. `raw` is the body, without our secret."""
    try:
        body = _loads(raw)
    except ValueError:
        body = None
    error = body.get("error") if isinstance(body, dict) else None
    code = error.get("code") if isinstance(error, dict) else None
    if status not in CALLERS or code == UNKNOWN_MODEL:
        return unavailable(f"The upstream answered {status}.", counts)
    if isinstance(error, dict):
        return Fault(Refusal("invalid", status, "upstream refused", "upstream_refused", orjson.dumps(body)), counts)
    message = _message(body) or raw or f"The upstream answered {status}."
    shaped = error_body(message[:MESSAGE_CHARS], "invalid_request_error", "upstream_refused")
    return Fault(Refusal("invalid", status, "upstream refused", "upstream_refused", shaped), counts)


def _message(body: Any) -> str:
    """The words of an error that is not in OpenAI's shape: FastAPI's detail, an older vLLM's message, a bare text."""
    if isinstance(body, dict):
        found = next((body[name] for name in ("error", "message", "detail") if body.get(name)), "")
        return found if isinstance(found, str) else orjson.dumps(found).decode()
    return ""


def broke_off(body: dict[str, Any], counts: Counts) -> Fault:
    """An error object where an answer was expected, in a 200: whose fault it is stands in its code or type."""
    error = body["error"]
    status = error.get("code") if isinstance(error, dict) else None
    if isinstance(error, dict) and error.get("type") in CALLERS_TYPES and not isinstance(status, int):
        status = 400
    if status in CALLERS:
        return refusal(int(status), orjson.dumps({"error": error}).decode(), counts)
    return unavailable("The upstream broke off with an error.", counts)


def counts_of(usage: Any) -> Counts:
    """Counts of OpenAI's usage object; what is missing, or no possible number, is 0."""

    def number(holder: Any, name: str) -> int:
        value = holder.get(name) if isinstance(holder, dict) else None
        return value if type(value) is int and 0 < value <= MOST_TOKENS else 0

    asked, answered = number(usage, "prompt_tokens"), number(usage, "completion_tokens")
    details = usage if isinstance(usage, dict) else {}
    cached = number(details.get("prompt_tokens_details"), "cached_tokens")
    reasoning = number(details.get("completion_tokens_details"), "reasoning_tokens")
    return Counts(asked, answered, min(cached, asked), min(reasoning, answered))


def settle(usage: Any, job: Job, answer_bytes: int) -> tuple[Counts, bool]:
    """(counts, whether some are estimated): each count that the upstream does not give is its upper bound."""
    said, most = counts_of(usage), bound(job, answer_bytes)
    counts = said._replace(
        input_tokens=said.input_tokens or most.input_tokens, output_tokens=said.output_tokens or most.output_tokens
    )
    return counts, counts != said


def bound(job: Job, answer_bytes: int) -> Counts:
    """Most tokens that can have been spent: bytes, 16 per message, and never above the limits that were reserved."""
    messages = job.body.get("messages")
    if isinstance(messages, list):
        asked = sum(_asked_bytes(m.get("content")) + 16 for m in messages if isinstance(m, dict))
    else:
        asked = _asked_bytes(job.body.get("prompt") or job.body.get("input")) + 16
    limit = job.output_limit() or answer_bytes
    return Counts(min(asked, job.max_input_tokens or asked), min(answer_bytes, limit))


def _asked_bytes(content: Any) -> int:
    """Of a prompt: a string, numbers of tokens, or parts of which those with text count."""
    if isinstance(content, str):
        return len(content.encode(errors="replace"))
    if isinstance(content, list):
        return sum(map(_asked_bytes, content))
    return _asked_bytes(content.get("text")) if isinstance(content, dict) else int(isinstance(content, int))


def usage_of(counts: Counts) -> dict[str, Any]:
    """OpenAI's usage object for tokens that nobody counted; it says so."""
    asked, answered = counts.input_tokens, counts.output_tokens
    total = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
    return {**total, "estimated": True}
