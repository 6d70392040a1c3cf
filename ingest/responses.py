"""The answer to a chat as the response its caller asked for, whole and event by event. Pure.

Source: OpenAI's Responses API; the names of the events and their fields are those its SDKs accumulate.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from ingest.streaming import DONE, Stream

# What a delta says, the type of the content it belongs to, and the name of its events.
SAID: Final = (("content", "output_text", "text"), ("refusal", "refusal", "refusal"))
THOUGHT: Final = ("reasoning_content", "reasoning")
INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}
# Fields of the request that a response repeats, with what they are where the caller said nothing.
REPEATED: Final[dict[str, Any]] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {},
    "parallel_tool_calls": True, "prompt_cache_key": None, "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None, "service_tier": None, "temperature": None, "text": {"format": {"type": "text"}},
    "tool_choice": "auto", "tools": [], "top_p": None, "user": None,
}  # fmt: skip
ALWAYS: Final[dict[str, Any]] = {
    "background": False, "error": None, "incomplete_details": None, "previous_response_id": None, "store": False,
    "top_logprobs": 0, "truncation": "disabled",
}  # fmt: skip

Event = dict[str, Any]


class Response:
    """One response as it grows. `asked` is the body of the request; in a batch, where nobody has it, it is empty."""

    def __init__(self, request_id: str, asked: Mapping[str, Any]) -> None:
        self._name = request_id.replace("-", "")
        repeated = {f: asked.get(f) if asked.get(f) is not None else value for f, value in REPEATED.items()}
        self._fixed = {"id": f"resp_{self._name}", "object": "response", **ALWAYS, **repeated}
        self._model = asked.get("model") or ""
        self._created = 0
        self._output: list[dict[str, Any]] = []
        self._calls: dict[int, int] = {}
        self._saying = -1
        self._finish = ""
        self._usage: dict[str, Any] | None = None

    def head(self, chat: Mapping[str, Any]) -> None:
        """Take what stands beside the choices of an answer, or of a piece of one."""
        self._model = chat.get("model") or self._model
        self._created = chat.get("created") or self._created
        self._usage = chat.get("usage") or self._usage

    def add(self, delta: Mapping[str, Any], finish: str | None) -> Iterator[Event]:
        """The events of what a choice adds. A whole message is a delta too."""
        for name in THOUGHT:
            if isinstance(delta.get(name), str) and delta[name]:
                yield from self._say("reasoning", "reasoning_text", "reasoning_text", "text", delta[name])
                break
        for name, kind, field in SAID:
            if isinstance(delta.get(name), str) and delta[name]:
                yield from self._say("message", kind, kind, field, delta[name])
        for i, call in enumerate(delta.get("tool_calls") or ()):
            yield from self._call(call.get("index", i), call)
        self._finish = finish or self._finish

    def end(self) -> Iterator[Event]:
        """The last events: what is open is done, and so is the response."""
        yield from self._fall_silent()
        for at in self._calls.values():
            item = self._output[at]
            item["status"] = "completed"
            where = {"item_id": item["id"], "output_index": at}
            arguments = {"arguments": item["arguments"], "name": item["name"]}
            yield {"type": "response.function_call_arguments.done", **where, **arguments}
            yield {"type": "response.output_item.done", "output_index": at, "item": item}
        self._calls.clear()
        final = self.shown(self.status)
        yield {"type": f"response.{final['status']}", "response": final}

    @property
    def status(self) -> str:
        """How it ended."""
        return "incomplete" if self._finish in INCOMPLETE else "completed"

    def shown(self, status: str) -> dict[str, Any]:
        """The object as it is now."""
        shown = {**self._fixed, "created_at": self._created, "model": self._model, "status": status}
        if status == "incomplete":
            shown["incomplete_details"] = {"reason": INCOMPLETE[self._finish]}
        over = status in ("completed", "incomplete")
        shown["output"] = [{**item} for item in self._output] if over else []
        shown["usage"] = _usage(self._usage) if over and self._usage else None
        return shown

    def _say(self, kind: str, part: str, event: str, field: str, text: str) -> Iterator[Event]:
        at = self._saying
        if at < 0 or self._output[at]["type"] != kind or self._output[at]["content"][0]["type"] != part:
            yield from self._fall_silent()
            yield from self._begin(kind, {"type": part, field: "", **_beside(part)})
            at = self._saying
        item = self._output[at]
        item["content"][0][field] += text
        more: Event = {"logprobs": []} if part == "output_text" else {}
        yield {"type": f"response.{event}.delta", **_where(item, at), "delta": text, **more}

    def _begin(self, kind: str, part: dict[str, Any]) -> Iterator[Event]:
        at = self._saying = len(self._output)
        item: Event = {"id": f"{'msg' if kind == 'message' else 'rs'}_{self._name}{at}", "type": kind}
        item["status"] = "in_progress"
        of_kind: Event = {"role": "assistant"} if kind == "message" else {"summary": []}
        item |= of_kind
        yield {"type": "response.output_item.added", "output_index": at, "item": {**item, "content": []}}
        item["content"] = [part]
        self._output.append(item)
        yield {"type": "response.content_part.added", **_where(item, at), "part": {**part}}

    def _fall_silent(self) -> Iterator[Event]:
        if self._saying < 0:
            return
        at, self._saying = self._saying, -1
        item = self._output[at]
        part = item["content"][0]
        field = "refusal" if part["type"] == "refusal" else "text"
        item["status"] = "incomplete" if self._finish in INCOMPLETE else "completed"
        more: Event = {"logprobs": []} if part["type"] == "output_text" else {}
        yield {"type": f"response.{part['type']}.done", **_where(item, at), field: part[field], **more}
        yield {"type": "response.content_part.done", **_where(item, at), "part": {**part}}
        yield {"type": "response.output_item.done", "output_index": at, "item": {**item}}

    def _call(self, index: int, call: Mapping[str, Any]) -> Iterator[Event]:
        function = call.get("function") or {}
        if index not in self._calls:
            yield from self._fall_silent()
            at = self._calls[index] = len(self._output)
            item = {"id": f"fc_{self._name}{at}", "type": "function_call", "status": "in_progress", "arguments": ""}
            item |= {"call_id": call.get("id") or f"call_{self._name}{at}", "name": function.get("name") or ""}
            self._output.append(item)
            yield {"type": "response.output_item.added", "output_index": at, "item": {**item}}
        at = self._calls[index]
        if text := function.get("arguments") or "":
            self._output[at]["arguments"] += text
            where = {"item_id": self._output[at]["id"], "output_index": at}
            yield {"type": "response.function_call_arguments.delta", **where, "delta": text}


def _where(item: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {"item_id": item["id"], "output_index": at, "content_index": 0}


def _beside(part: str) -> dict[str, Any]:
    return {"annotations": [], "logprobs": []} if part == "output_text" else {}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    given, said = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    shown = {
        "input_tokens": given,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": said,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage.get("total_tokens") or given + said,
    }
    return shown | ({"estimated": True} if usage.get("estimated") else {})


def whole(body: bytes, request_id: str, asked: Mapping[str, Any]) -> bytes:
    """The response that the chat completion in `body` is."""
    chat = orjson.loads(body)
    response = Response(request_id, asked)
    response.head(chat)
    for choice in (chat.get("choices") or ())[:1]:
        for _ in response.add(choice.get("message") or {}, choice.get("finish_reason")):
            pass
    for _ in response.end():
        pass
    return orjson.dumps(response.shown(response.status))


class ResponseStream(Stream):
    """One streamed response: the events of a chat, translated."""

    def __init__(self, request_id: str, asked: Mapping[str, Any]) -> None:
        super().__init__(include_usage=True)
        self._response = Response(request_id, asked)
        self._number = 0

    def chunk(self, record: dict[str, Any]) -> bytes:
        """Events for a Chunk. Sets `ended` if it is of another attempt."""
        return self._translated(super().chunk(record))

    def reply(self, record: dict[str, Any]) -> bytes:
        """The last events, made from the Reply. Sets `ended`."""
        return self._translated(super().reply(record))

    def fail(self, message: str, code: str, error: dict[str, Any] | None = None) -> bytes:
        """An error in place of the rest. The key `error` lets SDKs raise it, as they do in a chat. Sets `ended`."""
        self.ended = True
        full = {"message": message, "type": "server_error", "param": None, "code": code} | (error or {})
        flat = {name: full[name] for name in ("message", "param", "code")}
        return self._event({"type": "error", **flat, "error": full})

    def _translated(self, events: bytes) -> bytes:
        out = []
        for event in events.split(b"\n\n"):
            data = event.removeprefix(b"data: ")
            if event.startswith(b"event: "):  # `fail` wrote it
                out.append(event + b"\n\n")
            elif event + b"\n\n" == DONE:
                out += map(self._event, self._response.end())
            elif data:
                out += map(self._event, self._of_chunk(orjson.loads(data)))
        return b"".join(out)

    def _of_chunk(self, chunk: dict[str, Any]) -> Iterator[Event]:
        self._response.head(chunk)
        if not self._number:
            for name in ("created", "in_progress"):
                yield {"type": f"response.{name}", "response": self._response.shown("in_progress")}
        for choice in chunk.get("choices") or ():
            if not choice.get("index"):
                yield from self._response.add(choice.get("delta") or {}, choice.get("finish_reason"))

    def _event(self, event: Event) -> bytes:
        event["sequence_number"] = self._number
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))
