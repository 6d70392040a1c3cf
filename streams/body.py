"""What admission reads in a request's body: texts to moderate, bounds to reserve, identity for dedupe. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import orjson

from schemas.config import Model, Pool

# Tokens a chat template adds around one message, at most: measured 5 for ChatML, and 3 for the reply's opening.
MESSAGE_OVERHEAD: Final = 16
# Declared bound of an image, in tokens: what the largest vision models in use charge for one tile set.
IMAGE_TOKENS: Final = 2_048
# Output bound where neither the request nor the model names one.
DEFAULT_OUTPUT_TOKENS: Final = 4_096
# Fields that no model reads.
NOT_READ: Final = frozenset(
    {"model", "user", "metadata", "service_tier", "stream_options", "safety_identifier", "prompt_cache_key"}
)
# Below the others: closed lists and identifiers, and media, which are addresses or bytes and no text.
PLAIN_KEYS: Final = frozenset({"role", "type", "id", "tool_call_id", "call_id", "detail", "format"})
MEDIA: Final = frozenset({"image_url", "input_audio", "file", "audio"})
# Fields that do not change the answer, so they are no part of its identity.
NOT_IDENTITY: Final = frozenset({"stream", "stream_options", "user", "metadata", "store", "service_tier", "model"})

# What a caller may ask for. `flex` is the batch lane; nothing goes ahead of the interactive one, so that is all others.
FLEX: Final = "flex"
TIERS: Final = ("auto", "default", FLEX, "priority", "scale")


class BodyError(ValueError):
    """A body that cannot be a request. `param` names the field, `code` the OpenAI error code."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class Bounds(NamedTuple):
    """Upper bounds in tokens."""

    input_tokens: int
    output_tokens: int


def parse(raw: bytes) -> dict[str, Any]:
    """The body as a mapping. Raises BodyError."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BodyError(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(body, dict):
        raise BodyError("The body must be a JSON object.")
    return body


def _part_texts(holder: dict[str, Any], field: str) -> Iterator[tuple[dict[str, Any], str]]:
    value = holder.get(field)
    if isinstance(value, str):
        yield holder, field
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                yield part, "text"


def _places(body: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """(holder, field) of every text a model will read."""
    for message in body.get("messages") or ():
        if isinstance(message, dict):
            yield from _part_texts(message, "content")
    for field in ("prompt", "input", "suffix", "instructions"):
        yield from _part_texts(body, field)


def _listed(body: dict[str, Any]) -> Iterator[tuple[list[Any], int]]:
    for field in ("prompt", "input"):
        value = body.get(field)
        if isinstance(value, list):
            yield from ((value, i) for i, item in enumerate(value) if isinstance(item, str))


def texts(body: dict[str, Any]) -> list[str]:
    """The contents that a model will read, in order: what bounds its tokens."""
    return [h[f] for h, f in _places(body)] + [values[i] for values, i in _listed(body)]


def pieces(body: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Texts of one message that come in several parts: a model reads them as one."""
    for message in body.get("messages") or ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            parts = [p for p in content if isinstance(p, dict) and isinstance(p.get("text"), str)]
            if len(parts) > 1:
                yield parts


def readable(body: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """(holder, key) of every string of which a model may come to read a part: what is moderated.

    That is more than the contents: names, tool calls, descriptions of tools, schemas, predictions.
    """
    for field, value in body.items():
        if field in NOT_READ:
            continue
        if isinstance(value, str):
            yield body, field
        elif isinstance(value, dict | list):
            yield from _strings(value)


def _strings(holder: Any) -> Iterator[tuple[Any, Any]]:
    items = list(holder.items() if isinstance(holder, dict) else enumerate(holder))
    for key, value in items:
        if isinstance(value, str):
            if key not in PLAIN_KEYS:
                yield holder, key
        elif isinstance(value, dict | list) and key not in MEDIA:
            yield from _strings(value)


def validate(body: dict[str, Any], endpoint: str, model: Model) -> None:
    """Raises BodyError where no engine could answer it."""
    messages = body.get("messages")
    # Whatever the endpoint: what stands there is read as messages further on.
    if messages is not None and not isinstance(messages, list):
        raise BodyError("messages must be a list.", "messages")
    if not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages or ()):
        raise BodyError("every message must be an object with a role.", "messages")
    if endpoint == "/v1/chat/completions" and not messages:
        raise BodyError("messages must be a non-empty list.", "messages")
    if endpoint == "/v1/embeddings" and not model.embeds:
        raise BodyError("this model does not embed; /v1/models tells which do.", "model", "model_not_supported")
    for field in ("max_tokens", "max_completion_tokens", "n"):
        value = body.get(field)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
            raise BodyError(f"{field} must be a positive integer.", field)
    asked = asked_output(body)
    if asked is not None and model.max_output_tokens and asked > model.max_output_tokens:
        raise BodyError(
            f"max_tokens is {asked}, but this model gives at most {model.max_output_tokens} tokens.", "max_tokens"
        )

    tier(body)


def tier(body: dict[str, Any]) -> str:
    """The service tier that the caller named, empty if none. Raises BodyError where there is no such tier."""
    value = body.get("service_tier")
    if value is None:
        return ""
    if value not in TIERS:
        raise BodyError(f"service_tier must be one of {', '.join(TIERS)}.", "service_tier")
    return str(value)


def asked_output(body: dict[str, Any]) -> int | None:
    """The output limit the caller named, in tokens."""
    value = body.get("max_completion_tokens")
    return value if value is not None else body.get("max_tokens")


def bounds(body: dict[str, Any], model: Model, pools: list[Pool]) -> Bounds:
    """Upper bounds of what any of these pools may spend on it.

    A token covers at least one byte, so the bytes of a text bound its tokens; `echo` counts words, exactly.
    """
    asked = asked_output(body)
    choices = body.get("n") or 1
    if pools and all(pool.engine == "echo" for pool in pools):
        said = texts(body)
        last = said[-1] if said else ""
        output = asked if asked is not None else max(1, len(_last_user_text(body, last).split()))
        return Bounds(sum(len(t.split()) for t in said), output * choices)
    size = sum(len(t) if t.isascii() else len(t.encode()) for t in texts(body))
    size += MESSAGE_OVERHEAD * len(body.get("messages") or (1,)) + IMAGE_TOKENS * _images(body)
    if body.get("tools"):
        size += len(orjson.dumps(body["tools"]))
    output = asked if asked is not None else model.max_output_tokens or DEFAULT_OUTPUT_TOKENS
    return Bounds(size, 0 if model.embeds else output * choices)


def _last_user_text(body: dict[str, Any], otherwise: str) -> str:
    for message in reversed(body.get("messages") or ()):
        if isinstance(message, dict) and message.get("role") == "user":
            return "".join(h[f] for h, f in _part_texts(message, "content"))
    return otherwise


def _images(body: dict[str, Any]) -> int:
    contents = (m.get("content") for m in body.get("messages") or () if isinstance(m, dict))
    return sum(isinstance(p, dict) and "image_url" in p for c in contents if isinstance(c, list) for p in c)


def cacheable(body: dict[str, Any], asked: str) -> bool:
    """Whether an answer may be shared: the caller said so, or the request is deterministic."""
    if asked != "default":
        return asked == "on"
    temperature = body.get("temperature")
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0


def cache_key(body: dict[str, Any], endpoint: str, model: str, rules: str = "") -> str:
    """Identity of the answer within a tenant: model, every message, every parameter that may change it.

    `rules` names what judges prompts and answers: one let through by others must be looked at anew.
    """
    same = {k: v for k, v in body.items() if k not in NOT_IDENTITY}
    text = orjson.dumps([endpoint, model, rules, same], option=orjson.OPT_SORT_KEYS)
    return hashlib.blake2b(text, digest_size=20).hexdigest()
