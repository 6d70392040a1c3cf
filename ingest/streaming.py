"""One streamed answer as server-sent events: pieces from a worker, then what the reply adds. Pure."""

from __future__ import annotations

from typing import Any, Final

import orjson

DONE: Final = b"data: [DONE]\n\n"
OTHER_ATTEMPT: Final = "The answer was interrupted: the worker that was writing it is gone."


class Stream:
    """Turns the records of one answer into events.

    The first attempt that is shown is pinned: two attempts would say different things. A gap (chunks dropped for a
    slow reader) is closed by the reply, which holds the whole text.
    """

    def __init__(self, include_usage: bool, tier: str = "") -> None:
        self._include_usage = include_usage
        # What stands in every event for a caller who asked for a tier.
        self._stamp: dict[str, Any] = {"service_tier": tier} if tier else {}
        self._attempt = ""
        self._next = 0
        self._gap = False
        self._text: dict[tuple[int, str], list[str]] = {}
        self._other: set[tuple[int, str]] = set()
        self._finished: set[int] = set()
        self._usage_shown = False
        self.ended = False

    def chunk(self, record: dict[str, Any]) -> bytes:
        """Event for a Chunk; empty if it adds nothing. Sets `ended` if it is of another attempt."""
        if not self._attempt:
            if record["sequence"] != 0:  # joined in the middle; the reply will bring it all
                return b""
            self._attempt = record["attempt"]
        elif record["attempt"] != self._attempt:
            return self.fail(OTHER_ATTEMPT, "interrupted")
        if record["sequence"] < self._next:  # delivered before
            return b""
        self._gap = self._gap or record["sequence"] > self._next
        if self._gap:
            return b""
        self._next += 1
        data: bytes = record["data"]
        chunk = orjson.loads(data)
        if not self._note(chunk):
            return b""
        return _event(chunk | self._stamp) if self._stamp else b"data: %b\n\n" % data

    def reply(self, record: dict[str, Any]) -> bytes:
        """The last events, made from the Reply. Sets `ended`."""
        body = orjson.loads(record["body"])
        if record["status"] == "blocked":
            self.ended = True
            return _guard(body, self._stamp, first=self._next == 0)
        if record["status"] != "completed" or "error" in body:
            error = body.get("error") or {}
            message = error.get("message") or f"The request ended as {record['status']}."
            return self.fail(message, error.get("code") or record["status"], error)
        if self._next and record["attempt"] and record["attempt"] != self._attempt:
            return self.fail(OTHER_ATTEMPT, "interrupted")
        self.ended = True
        return self._rest(body) + DONE

    def fail(self, message: str, code: str, error: dict[str, Any] | None = None) -> bytes:
        """An error in place of the rest; no [DONE] follows, so that nobody takes it for the end. Sets `ended`."""
        self.ended = True
        envelope = {"message": message, "type": "server_error", "param": None, "code": code}
        return _event({"error": envelope | (error or {})})

    def _note(self, chunk: dict[str, Any]) -> bool:
        """Remember what a chunk shows; False if it is usage that nobody asked for."""
        choices = chunk.get("choices") or ()
        if not choices and chunk.get("usage"):
            self._usage_shown = True
            return self._include_usage
        for choice in choices:
            index = choice.get("index", 0)
            for name, value in _parts(choice).items():
                if isinstance(value, str):
                    self._text.setdefault((index, name), []).append(value)
                elif value is not None:
                    self._other.add((index, name))
            if choice.get("finish_reason"):
                self._finished.add(index)
        return True

    def _rest(self, body: dict[str, Any]) -> bytes:
        out = []
        head = _head(body) | self._stamp
        for choice in body.get("choices") or ():
            index = choice.get("index", 0)
            left = {name: self._missing(index, name, value) for name, value in _whole(choice).items()}
            missing = {name: value for name, value in left.items() if value is not None}
            if missing:
                if self._next == 0 and "message" in choice:
                    missing = {"role": "assistant", **missing}
                out.append(_event({**head, "choices": [_piece(choice, missing, None, self._next == 0)]}))
            if index not in self._finished:
                reason = choice.get("finish_reason") or "stop"
                out.append(_event({**head, "choices": [_piece(choice, {}, reason, False)]}))
        if self._include_usage and not self._usage_shown:
            out.append(_event({**head, "choices": [], "usage": body.get("usage")}))
        return b"".join(out)

    def _missing(self, index: int, name: str, value: Any) -> Any:
        """The part of a field that was not shown yet; None if there is none."""
        if isinstance(value, str):
            shown = "".join(self._text.get((index, name), ()))
            return (value[len(shown) :] or None) if value.startswith(shown) else None
        return None if (index, name) in self._other or not value else value


def _parts(choice: dict[str, Any]) -> dict[str, Any]:
    """What a chunk's choice adds: its delta (chat), or its text (completions)."""
    delta = choice.get("delta")
    return delta if delta is not None else {"text": choice.get("text") or ""}


def _whole(choice: dict[str, Any]) -> dict[str, Any]:
    """What a whole answer's choice says, in the form of a delta."""
    message = choice.get("message")
    if message is None:
        return {"text": choice.get("text") or ""}
    whole = {k: v for k, v in message.items() if k != "role"}
    if whole.get("tool_calls"):
        whole["tool_calls"] = [{"index": i, **call} for i, call in enumerate(whole["tool_calls"])]
    return whole


def _piece(choice: dict[str, Any], parts: dict[str, Any], reason: str | None, logprobs: bool) -> dict[str, Any]:
    piece: dict[str, Any] = {"index": choice.get("index", 0)}
    if "message" in choice:
        piece["delta"] = parts
    else:
        piece["text"] = parts.get("text", "")
    piece["logprobs"] = choice.get("logprobs") if logprobs else None
    piece["finish_reason"] = reason
    return piece


def _head(body: dict[str, Any]) -> dict[str, Any]:
    kind = "text_completion" if body.get("object") == "text_completion" else "chat.completion.chunk"
    head = {"id": body.get("id"), "object": kind, "created": body.get("created") or 0, "model": body.get("model")}
    if body.get("system_fingerprint"):
        head["system_fingerprint"] = body["system_fingerprint"]
    return head


def _guard(body: dict[str, Any], stamp: dict[str, Any], first: bool) -> bytes:
    """A blocked answer: the message, a stop with zero usage, the end."""
    head = _head(body) | stamp
    choice = body["choices"][0]
    said = {"content": choice["message"]["content"]}
    delta = {"role": "assistant", **said} if first else said
    stop = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    message = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
    return _event({**head, "choices": [message]}) + _event({**head, "choices": [stop], "usage": body["usage"]}) + DONE


def _event(data: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(data)
