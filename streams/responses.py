"""A request to /v1/responses as the chat it means: from here on it is one, with one identity, one quota, one row. Pure.

Nothing is stored for a later request to refer to, and only functions are called: what asks for more is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from streams.body import BodyError

RESPONSES: Final = "/v1/responses"
# Fields of such a request that a chat has under another name, or not at all. All others stay as they are.
TRANSLATED: Final = frozenset(
    {
        "input", "instructions", "max_output_tokens", "text", "tools", "tool_choice", "reasoning", "stream_options",
        "store", "background", "include", "truncation", "max_tool_calls", "previous_response_id", "conversation",
        "prompt", "top_logprobs", "moderation", "context_management",
    }
)  # fmt: skip
# Field, and the values of it that mean nothing to us. Any other asks for what is not served.
MEANS_NOTHING: Final[dict[str, tuple[Any, ...]]] = {
    "store": (None, False),
    "background": (None, False),
    "include": (None, []),
    "truncation": (None, "disabled"),
    "previous_response_id": (None, ""),
    "conversation": (None, ""),
    "prompt": (None,),
    "top_logprobs": (None, 0),
    "moderation": (None,),
    "context_management": (None, []),
}
WHY: Final = {
    "store": "Responses are not stored: send store false, or leave it out.",
    "previous_response_id": "Responses are not stored: send the whole conversation as input.",
    "conversation": "Conversations are not stored: send the whole conversation as input.",
}
TEXTS: Final = ("input_text", "output_text", "text")


def chat_body(body: dict[str, Any]) -> dict[str, Any]:
    """The chat that `body` asks for. Raises BodyError, naming the field that cannot be served."""
    for field, nothing in MEANS_NOTHING.items():
        if body.get(field) not in nothing:
            raise _unsupported(WHY.get(field, f"{field} is not served here."), field)
    chat = {name: value for name, value in body.items() if name not in TRANSLATED}
    chat["messages"] = _messages(body)
    if (limit := body.get("max_output_tokens")) is not None:
        if type(limit) is not int or limit < 1:
            raise BodyError("max_output_tokens must be a positive integer.", "max_output_tokens")
        chat["max_tokens"] = limit
    if body.get("tools"):
        chat["tools"] = _tools(body["tools"])
    if body.get("tool_choice") is not None:
        chat["tool_choice"] = _tool_choice(body["tool_choice"])
    reasoning = _mapping(body, "reasoning")
    if reasoning.get("effort") is not None:
        chat["reasoning_effort"] = reasoning["effort"]
    chat |= _format(_mapping(body, "text"))
    return chat


def _unsupported(message: str, field: str) -> BodyError:
    return BodyError(message, field, "unsupported_parameter")


def _mapping(body: dict[str, Any], field: str) -> dict[str, Any]:
    value = body.get(field)
    if value is not None and not isinstance(value, dict):
        raise BodyError(f"{field} must be an object.", field)
    return value or {}


def _format(text: dict[str, Any]) -> dict[str, Any]:
    """What `text` says of the answer's form, in a chat's words."""
    chat: dict[str, Any] = {"verbosity": text["verbosity"]} if text.get("verbosity") is not None else {}
    wanted = _mapping(text, "format")
    kind = wanted.get("type", "text")
    if kind == "json_schema":
        schema = {name: value for name, value in wanted.items() if name != "type"}
        chat["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif kind == "json_object":
        chat["response_format"] = {"type": "json_object"}
    elif kind != "text":
        raise _unsupported(f"text.format.type {kind!r} is not served here.", "text.format")
    return chat


def _tools(tools: Any) -> list[dict[str, Any]]:
    if not isinstance(tools, list):
        raise BodyError("tools must be a list.", "tools")
    functions = []
    for i, tool in enumerate(tools):
        if not isinstance(tool, dict) or tool.get("type") != "function" or not isinstance(tool.get("name"), str):
            raise _unsupported("Only tools of type function are served here, each with its name.", f"tools[{i}]")
        function = {name: value for name, value in tool.items() if name != "type" and value is not None}
        functions.append({"type": "function", "function": function})
    return functions


def _tool_choice(choice: Any) -> Any:
    if choice in ("auto", "none", "required"):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function" and isinstance(choice.get("name"), str):
        return {"type": "function", "function": {"name": choice["name"]}}
    raise _unsupported("tool_choice must be auto, none, required or a function.", "tool_choice")


def _messages(body: dict[str, Any]) -> list[dict[str, Any]]:
    instructions, given = body.get("instructions"), body.get("input")
    if instructions is not None and not isinstance(instructions, str):
        raise BodyError("instructions must be a string.", "instructions")
    messages: list[dict[str, Any]] = [{"role": "system", "content": instructions}] if instructions else []
    if isinstance(given, str) and given:
        return [*messages, {"role": "user", "content": given}]
    if not isinstance(given, list) or not given:
        raise BodyError("input must be a string or a list, not empty.", "input")
    for i, item in enumerate(given):
        for message in _message(item, f"input[{i}]"):
            called = message.get("tool_calls")
            if called and messages and messages[-1]["role"] == "assistant":
                # A chat has what was said and all calls of one turn in one message.
                messages[-1].setdefault("tool_calls", []).extend(called)
            else:
                messages.append(message)
    return messages


def _message(item: Any, place: str) -> Iterator[dict[str, Any]]:
    if not isinstance(item, dict):
        raise BodyError(f"{place} must be an object.", place)
    kind = item.get("type") or "message"
    if kind == "message":
        role = item.get("role")
        if not isinstance(role, str) or not role:
            raise BodyError(f"{place}.role must be a string.", f"{place}.role")
        yield {"role": "system" if role == "developer" else role, "content": _content(item.get("content"), place)}
    elif kind == "function_call":
        function = {name: _text(item, name, place) for name in ("name", "arguments")}
        call = {"id": _text(item, "call_id", place), "type": "function", "function": function}
        yield {"role": "assistant", "content": None, "tool_calls": [call]}
    elif kind == "function_call_output":
        said = _content(item.get("output"), place)
        yield {"role": "tool", "tool_call_id": _text(item, "call_id", place), "content": said}
    elif kind != "reasoning":  # what an earlier answer thought is no part of a chat
        raise _unsupported(f"Items of type {kind!r} are not served here.", place)


def _text(item: dict[str, Any], field: str, place: str) -> str:
    value = item.get(field)
    if not isinstance(value, str):
        raise BodyError(f"{place}.{field} must be a string.", f"{place}.{field}")
    return value


def _content(content: Any, place: str) -> str | list[dict[str, Any]]:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BodyError(f"{place}: the content must be a string or a list.", place)
    parts = [_part(part, f"{place}.content[{i}]") for i, part in enumerate(content)]
    if all(part["type"] == "text" for part in parts) and len(parts) == 1:
        return str(parts[0]["text"])
    return parts


def _part(part: Any, place: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in TEXTS:
        return {"type": "text", "text": _text(part, "text", place)}
    if kind == "refusal":
        return {"type": "text", "text": _text(part, "refusal", place)}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        image = {"url": part["image_url"], **({"detail": part["detail"]} if part.get("detail") else {})}
        return {"type": "image_url", "image_url": image}
    raise _unsupported(f"Content of type {kind!r} is not served here.", place)
