"""A record of intake.<tenant> as a Request, or as a dead letter. Pure but for the codec's look-up of schemas."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import orjson

from ingest.body import CHAT, MAX_BODY_BYTES
from schemas.records import DeadLetter, Request
from schemas.wire import Codec, WireError

PREFIX: Final = "intake."
KEY_ID: Final = "intake"
IDS: Final = uuid.UUID("0b7e5a4e-5d0c-5a3b-8c1d-6d696c6c7262")
DEFAULT_MS: Final = 86_400_000
MAX_MS: Final = 7 * 86_400_000
MAX_ID_CHARS: Final = 256
LANES: Final = ("standard", "batch")
# There is nobody to stream to.
NO_CALLER: Final = ("stream", "stream_options")


class Arrival(NamedTuple):
    """A record as Kafka gave it. `content_type` is empty for Avro."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    content_type: str


class BadRecordError(ValueError):
    """A record that cannot become a request."""

    def __init__(self, reason: str, schema_id: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.schema_id = schema_id


class _Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of schemas/avro/intake.avsc, for records in JSON (whose `parameters` may also be an object)."""

    id: str = ""
    model: str = ""
    messages: list[dict[str, Any]] = []
    max_tokens: int | None = None
    temperature: float | None = None
    parameters: str | dict[str, Any] = ""
    lane: str = "standard"
    timeout_ms: int = 0
    correlation_id: str = ""


@dataclass(frozen=True, slots=True)
class Translator:
    """Turns arrivals into requests."""

    codec: Codec

    def request(self, arrival: Arrival, tenants: tuple[str, ...], now_ms: int) -> Request:
        """The request of a record; its tenant comes from the topic's name, never from the record.

        Raises BadRecordError. Whatever else it raises means that the registry could not be asked: try again.
        """
        tenant = arrival.topic.removeprefix(PREFIX)
        if tenant not in tenants:
            raise BadRecordError(f"there is no tenant {tenant!r}")
        fields = self._fields(arrival)
        body = _body(fields)
        if len(fields.id) > MAX_ID_CHARS:
            raise BadRecordError(f"`id` is longer than {MAX_ID_CHARS} characters")
        if fields.lane not in ("", *LANES):
            raise BadRecordError(f"`lane` must be standard or batch, not {fields.lane!r}")
        if fields.timeout_ms < 0:
            raise BadRecordError("`timeout_ms` must not be negative")
        return Request(
            tenant=tenant,
            request_id=fields.id or identity(arrival),
            key_id=KEY_ID,
            endpoint=CHAT,
            model=fields.model,
            body=body,
            lane=fields.lane or "standard",
            received_at=now_ms,
            deadline=now_ms + min(fields.timeout_ms or DEFAULT_MS, MAX_MS),
            reply_to="",
            stream=False,
            batch_id="",
            line=0,
            custom_id="",
            cache="default",
            repeatable=False,
            correlation_id=fields.correlation_id,
            source="intake",
        )

    def _fields(self, arrival: Arrival) -> _Fields:
        value = arrival.value
        if value is None:
            raise BadRecordError("the record has no value")
        if len(value) > MAX_BODY_BYTES:
            raise BadRecordError(f"the record has {len(value)} bytes, more than the {MAX_BODY_BYTES} of a request")
        if arrival.content_type.partition(";")[0].strip().lower() == "application/json":
            try:
                return msgspec.convert(orjson.loads(value), _Fields)
            except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
                raise BadRecordError(f"not a request in JSON: {error}") from None
        try:
            name, record = self.codec.decode(value)
        except WireError as error:
            raise BadRecordError(error.reason, error.schema_id) from None
        if name != "Intake":
            raise BadRecordError(f"a record of {name}, not of Intake", int.from_bytes(value[1:5], "big"))
        return _Fields(**record)


def dead_letter(arrival: Arrival, fault: BadRecordError, now_ms: int) -> DeadLetter:
    """The record set aside, with its original bytes."""
    return DeadLetter(
        tenant=arrival.topic.removeprefix(PREFIX),
        source_topic=arrival.topic,
        partition=arrival.partition,
        offset=arrival.offset,
        reason=fault.reason,
        schema_id=fault.schema_id,
        key=arrival.key,
        value=arrival.value or b"",
        at=now_ms,
    )


def identity(arrival: Arrival) -> str:
    """The id of a record without one: the same whenever it is read again."""
    return str(uuid.uuid5(IDS, f"{arrival.topic}:{arrival.partition}:{arrival.offset}"))


def _body(fields: _Fields) -> bytes:
    body: dict[str, Any] = {k: v for k, v in _parameters(fields.parameters).items() if k not in NO_CALLER}
    if fields.model:
        body["model"] = fields.model
    body["messages"] = fields.messages
    if fields.max_tokens is not None:
        body["max_tokens"] = fields.max_tokens
    if fields.temperature is not None:
        body["temperature"] = fields.temperature
    raw = orjson.dumps(body)
    if len(raw) > MAX_BODY_BYTES:  # JSON writes some characters in six bytes
        raise BadRecordError(f"the request has {len(raw)} bytes as JSON, more than the {MAX_BODY_BYTES} allowed")
    return raw


def _parameters(parameters: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(parameters, dict):
        return parameters
    if not parameters.strip():
        return {}
    try:
        data = orjson.loads(parameters)
    except orjson.JSONDecodeError as error:
        raise BadRecordError(f"`parameters` is not valid JSON: {error}") from None
    if not isinstance(data, dict):
        raise BadRecordError("`parameters` must be a JSON object")
    return data
