"""What the gateway looks at in a request's body. All else passes unchanged. Pure."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from ingest.envelope import invalid
from streams.body import FLEX, BodyError, tier
from streams.judging import MODERATIONS
from streams.responses import RESPONSES, chat_body

CHAT: Final = "/v1/chat/completions"
COMPLETIONS: Final = "/v1/completions"
EMBEDDINGS: Final = "/v1/embeddings"
ENDPOINTS: Final = (CHAT, COMPLETIONS, EMBEDDINGS, MODERATIONS, RESPONSES)
WITHOUT_STREAM: Final = (EMBEDDINGS, MODERATIONS)
MAX_BODY_BYTES: Final = 4 * 1024 * 1024


class Body(NamedTuple):
    """What we need to know of a body. `model` and `tier` are empty when the caller named none."""

    model: str
    stream: bool
    include_usage: bool
    tier: str = ""

    @property
    def patient(self) -> bool:
        """Whether the caller waits in the batch lane."""
        return self.tier == FLEX

    @property
    def served(self) -> str:
        """The tier that the answer names; empty for a caller who named none."""
        return FLEX if self.patient else self.tier and "default"


def parse(raw: bytes, endpoint: str) -> Body:
    """Read and check the body of a call to `endpoint`. Raises ApiError (400)."""
    try:
        data = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise invalid(f"The body is not valid JSON: {error}.", code="invalid_json") from None
    return check(data, endpoint)


def check(data: Any, endpoint: str) -> Body:
    """Check a decoded body. Raises ApiError (400) with the name of the field at fault."""
    if not isinstance(data, dict):
        raise invalid("The body must be a JSON object.")
    model = data.get("model")
    if model is not None and not isinstance(model, str):
        raise invalid("`model` must be a string.", "model")
    if endpoint == CHAT:
        _check_messages(data.get("messages"))
    elif endpoint == COMPLETIONS:
        _check_input(data.get("prompt"), "prompt")
    elif endpoint == RESPONSES:
        _check_response(data)
    else:
        _check_input(data.get("input"), "input")
    for name in ("max_tokens", "max_completion_tokens"):
        _check_positive(data.get(name), name)
    stream, include_usage = _stream(data)
    named = "" if endpoint == MODERATIONS else _tier(data)
    return Body(model or "", stream and endpoint not in WITHOUT_STREAM, include_usage, named)


def _tier(data: dict[str, Any]) -> str:
    try:
        return tier(data)
    except BodyError as error:
        raise invalid(error.message, error.param, error.code) from None


def _check_response(data: dict[str, Any]) -> None:
    try:
        chat_body(data)
    except BodyError as error:
        raise invalid(error.message, error.param, error.code) from None


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise invalid("`messages` must be a list of at least one message.", "messages")
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"`messages[{i}]` must be an object.", f"messages[{i}]")
        if not isinstance(message.get("role"), str) or not message["role"]:
            raise invalid(f"`messages[{i}].role` must be a string.", f"messages[{i}].role")


def _check_input(value: Any, name: str) -> None:
    if not isinstance(value, (str, list)) or not value:
        raise invalid(f"`{name}` must be a string or a list, not empty.", name)


def _check_positive(value: Any, name: str) -> None:
    if value is not None and (type(value) is not int or value < 1):
        raise invalid(f"`{name}` must be a positive integer.", name)


def _stream(data: dict[str, Any]) -> tuple[bool, bool]:
    stream = data.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise invalid("`stream` must be true or false.", "stream")
    options = data.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise invalid("`stream_options` must be an object.", "stream_options")
    return bool(stream), bool(options and options.get("include_usage"))
