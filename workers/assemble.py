"""From chunks to the whole answer: what a caller who did not stream would have been given. Pure."""

from __future__ import annotations

from typing import Any, Final

# Strings that come whole; every other string in a delta is a piece to be appended.
WHOLE: Final = frozenset({"role", "id", "type", "name", "object"})
# What every chunk repeats; the worker gives the answer its own.
NOT_BODY: Final = frozenset({"choices", "object"})


def merge(into: dict[str, Any], delta: dict[str, Any]) -> None:
    """Add `delta` to what has come before: strings grow, lists grow or merge by `index`, the rest is replaced."""
    for key, value in delta.items():
        before = into.get(key)
        if before is None:
            if isinstance(value, dict):
                into[key] = {}
                merge(into[key], value)
            elif isinstance(value, list):
                into[key] = []
                _extend(into[key], value)
            else:
                into[key] = value
        elif isinstance(value, str) and isinstance(before, str):
            into[key] = value if key in WHOLE else before + value
        elif isinstance(value, dict) and isinstance(before, dict):
            merge(before, value)
        elif isinstance(value, list) and isinstance(before, list):
            _extend(before, value)
        elif value is not None:
            into[key] = value


def _extend(into: list[Any], items: list[Any]) -> None:
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        same = [old for old in into if isinstance(old, dict) and old.get("index") == index] if index is not None else []
        if same:
            merge(same[0], item)
        elif isinstance(item, dict):
            into.append({})
            merge(into[-1], item)
        else:
            into.append(item)


class Assembly:
    """The answer as far as its chunks have come."""

    def __init__(self) -> None:
        self._top: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    @property
    def begun(self) -> bool:
        """Whether any piece of a choice has come."""
        return bool(self._choices)

    def add(self, chunk: dict[str, Any]) -> None:
        """Take a chunk, as moderated."""
        self._top.update({k: v for k, v in chunk.items() if k not in NOT_BODY and v is not None})
        for choice in chunk.get("choices") or ():
            merge(self._choices.setdefault(choice.get("index", 0), {}), choice)

    def body(self, top: dict[str, Any]) -> dict[str, Any]:
        """The whole answer; `top` has the last word on the top level."""
        choices = [_whole(index, choice) for index, choice in sorted(self._choices.items())]
        return {**self._top, "choices": choices, **top}


def _whole(index: int, choice: dict[str, Any]) -> dict[str, Any]:
    rest = {k: v for k, v in choice.items() if k not in ("delta", "index", "logprobs", "finish_reason")}
    tail = {"logprobs": choice.get("logprobs"), "finish_reason": choice.get("finish_reason")}
    if "text" in choice:
        return {"index": index, **rest, **tail}
    message = {"role": "assistant", "content": None, **(choice.get("delta") or {})}
    for call in message.get("tool_calls") or ():
        call.pop("index", None)
    return {"index": index, "message": message, **rest, **tail}
