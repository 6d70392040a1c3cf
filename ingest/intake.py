"""A record of intake.<tenant> as a Request. Pure but for the reader's look-ups of schemas."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ingest.arrival import Arrival, BadRecordError, identity
from ingest.body import CHAT, MAX_BODY_BYTES
from ingest.intake_format import Fields, Reader
from schemas import topics
from schemas.config import ConfigDocument
from schemas.records import Request

KEY_ID: Final = "intake"
DEFAULT_MS: Final = 86_400_000
MAX_MS: Final = 7 * 86_400_000
MAX_CHARS: Final = {"id": 256, "order_key": 256, "correlation_id": 1_024}
# Names of admission's own begin with it.
RESERVED: Final = "*"
LANES: Final = ("", "standard", "batch")
# There is nobody to stream to.
NO_CALLER: Final = ("stream", "stream_options")


@dataclass(frozen=True, slots=True)
class Tenants:
    """Who may send, and which of them are answered on a topic of their own."""

    known: Collection[str]
    answered: Collection[str] = ()

    @classmethod
    def of(cls, document: ConfigDocument) -> Tenants:
        """As a configuration says."""
        answered = {name for name, tenant in document.settings.items() if tenant.answers == "topic"}
        return cls(frozenset(document.tenants), frozenset(answered))


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns arrivals into requests."""

    reader: Reader

    def request(self, arrival: Arrival, tenants: Tenants, now_ms: int) -> Request:
        """The request of a record; its tenant comes from the topic's name, never from the record.

        Raises BadRecordError. Whatever else it raises means that the registry could not be asked: try again.
        """
        tenant = arrival.tenant
        if tenant not in tenants.known:
            raise BadRecordError(f"there is no tenant {tenant!r}")
        fields = self.reader.fields(arrival)
        body = _body(fields)
        _check(fields)
        # Time in the topic counts: a relay that was away makes nothing younger.
        received_at = min(arrival.timestamp_ms or now_ms, now_ms)
        return Request(
            tenant=tenant,
            request_id=fields.id or identity(arrival),
            key_id=KEY_ID,
            endpoint=CHAT,
            model=fields.model,
            body=body,
            lane=fields.lane or "standard",
            received_at=received_at,
            deadline=_deadline(fields, received_at),
            reply_to=f"{topics.ANSWERS}{tenant}" if tenant in tenants.answered else "",
            stream=False,
            batch_id="",
            line=0,
            custom_id="",
            cache="default",
            repeatable=False,
            correlation_id=fields.correlation_id,
            source="intake",
            order_key=fields.order_key,
        )


def _check(fields: Fields) -> None:
    for name, most in MAX_CHARS.items():
        if len(getattr(fields, name)) > most:
            raise BadRecordError(f"`{name}` is longer than {most} characters")
    for name in ("id", "order_key"):
        if not getattr(fields, name).isprintable():
            raise BadRecordError(f"`{name}` has characters that cannot be printed")
    if fields.id.startswith(RESERVED):
        raise BadRecordError(f"`id` must not begin with {RESERVED}")
    if fields.lane not in LANES:
        raise BadRecordError(f"`lane` must be standard or batch, not {fields.lane[:100]!r}")
    for name in ("timeout_ms", "created_at", "max_age_ms"):
        if getattr(fields, name) < 0:
            raise BadRecordError(f"`{name}` must not be negative")


def _deadline(fields: Fields, received_at: int) -> int:
    """The moment from which an answer is of no use, or the request itself is stale, whichever is earlier."""
    deadline = received_at + min(fields.timeout_ms or DEFAULT_MS, MAX_MS)
    if not fields.max_age_ms:
        return deadline
    # A producer's clock that runs ahead makes nothing younger either.
    created_at = min(fields.created_at or received_at, received_at)
    return min(deadline, created_at + fields.max_age_ms)


def _body(fields: Fields) -> bytes:
    body: dict[str, Any] = _parameters(fields.parameters) if fields.parameters else {}
    for name in NO_CALLER:
        body.pop(name, None)
    if fields.model:
        body["model"] = fields.model
    body["messages"] = fields.messages
    if fields.max_tokens is not None:
        body["max_tokens"] = fields.max_tokens
    if fields.temperature is not None:
        body["temperature"] = fields.temperature
    try:
        raw = orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise BadRecordError(f"the request cannot be written as JSON: {error}") from None
    if len(raw) > MAX_BODY_BYTES:  # JSON writes some characters in six bytes
        raise BadRecordError(f"the request has {len(raw)} bytes as JSON, more than the {MAX_BODY_BYTES} allowed")
    return raw


def _parameters(parameters: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(parameters, dict):
        return dict(parameters)
    if not parameters.strip():
        return {}
    try:
        data = orjson.loads(parameters)
    except orjson.JSONDecodeError as error:
        raise BadRecordError(f"`parameters` is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRecordError("`parameters` must be a JSON object")
    return data
