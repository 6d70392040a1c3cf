"""The body of a blocked answer, in the format that users of Higress' security guard already parse. Pure."""

from __future__ import annotations

from typing import Any, Final

GUARD_MODEL: Final = "from-security-guard"


def guard_body(message: str, request_id: str = "blocked", model: str = GUARD_MODEL) -> dict[str, Any]:
    """A chat.completion whose only choice says `message`, with zero usage."""
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": message},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }
