"""The forms of a record of intake, told apart by its content-type. Pure but for look-ups of schemas.

None, or `avro/binary`: Avro in the Confluent wire format. `application/json`: the same fields as plain JSON.
`application/schema+json`: the same fields as JSON in the Confluent wire format, under a JSON Schema of the registry.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import orjson

from ingest.arrival import Arrival, BadRecordError
from ingest.body import MAX_BODY_BYTES
from schemas.wire import HEADER, MAGIC, Codec, WireError

AVRO: Final = ("", "avro/binary")
JSON: Final = "application/json"
JSON_SCHEMA: Final = "application/schema+json"


class Fields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of schemas/avro/intake.avsc; in JSON, `parameters` may also be an object."""

    id: str = ""
    model: str = ""
    messages: list[dict[str, Any]] = []
    max_tokens: int | None = None
    temperature: float | None = None
    parameters: str | dict[str, Any] = ""
    lane: str = "standard"
    timeout_ms: int = 0
    correlation_id: str = ""
    created_at: int = 0
    max_age_ms: int = 0
    order_key: str = ""


NAMES: Final = frozenset(Fields.__struct_fields__)
# Names of the properties that a JSON Schema of the registry declares. KeyError: there is no JSON Schema with this id.
Properties = Callable[[int], frozenset[str]]


def _no_registry(schema_id: int) -> frozenset[str]:
    raise KeyError(schema_id)


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the fields of records. `properties` asks the registry for JSON Schemas."""

    codec: Codec
    properties: Properties = _no_registry

    def fields(self, arrival: Arrival) -> Fields:
        """The fields of a record.

        Raises BadRecordError. Whatever else it raises means that the registry could not be asked: try again.
        """
        value = arrival.value
        if value is None:
            raise BadRecordError("the record has no value")
        if len(value) > MAX_BODY_BYTES:
            raise BadRecordError(f"the record has {len(value)} bytes, more than the {MAX_BODY_BYTES} of a request")
        kind = arrival.media_type
        if kind in AVRO:
            return self._avro(value)
        if kind == JSON:
            return _json(value)
        if kind == JSON_SCHEMA:
            return self._framed(value)
        raise BadRecordError(f"content-type is {kind[:100]!r}: known are {JSON}, {JSON_SCHEMA}, and none for Avro")

    def _avro(self, value: bytes) -> Fields:
        try:
            name, record = self.codec.decode(value)
        except WireError as error:
            raise BadRecordError(error.reason[:1_000], error.schema_id) from None
        if name != "Intake":
            raise BadRecordError(f"a record of {name}, not of Intake", HEADER.unpack_from(value)[1])
        return Fields(**record)

    def _framed(self, value: bytes) -> Fields:
        if len(value) < HEADER.size or value[0] != MAGIC:
            raise BadRecordError("not the Confluent wire format: byte 0, then a schema id of four bytes")
        schema_id = HEADER.unpack_from(value)[1]
        try:
            declared = self.properties(schema_id)
        except KeyError:
            raise BadRecordError(f"unknown schema id {schema_id}, or not that of a JSON Schema", schema_id) from None
        return _json(value[HEADER.size :], declared - NAMES, schema_id)


def _json(text: bytes, more: frozenset[str] = frozenset(), schema_id: int | None = None) -> Fields:
    """Fields of a JSON object, which may have `more` that mean nothing here."""
    try:
        data = orjson.loads(text)
        if more and isinstance(data, dict):
            data = {name: value for name, value in data.items() if name not in more}
        return msgspec.convert(data, Fields)
    except (orjson.JSONDecodeError, msgspec.ValidationError) as error:
        raise BadRecordError(f"not a request in JSON: {error}", schema_id) from None
