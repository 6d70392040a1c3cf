"""Confluent wire format: byte 0, a schema id of four bytes (big-endian), then Avro.

Source: https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/#wire-format
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import fastavro

from schemas import catalogue

MAGIC: Final = 0
HEADER: Final = struct.Struct(">bI")

Lookup = Callable[[int], Mapping[str, Any]]


class WireError(ValueError):
    """Bytes that are not a record we know. `schema_id` is what the header said, or None."""

    def __init__(self, reason: str, schema_id: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.schema_id = schema_id


def plain(schema: Any) -> Any:
    """The schema with logical types removed: time stays an integer of milliseconds in our records."""
    if isinstance(schema, dict):
        return {k: plain(v) for k, v in schema.items() if k not in ("logicalType", "doc")}
    if isinstance(schema, list):
        return [plain(v) for v in schema]
    return schema


def _parsed(name: str, folder: str = "avro") -> Any:
    return fastavro.parse_schema(plain(catalogue.raw(name, folder)))


class Codec:
    """Encodes and decodes the records of `schemas/avro`.

    `ids` maps a schema's name to its id in the registry. `lookup` returns the schema registered under an id
    that is not among them (an older or newer version); it raises KeyError if there is none.
    """

    def __init__(self, ids: Mapping[str, int], lookup: Lookup | None = None) -> None:
        self._headers = {name: HEADER.pack(MAGIC, i) for name, i in ids.items()}
        self._readers = {name: _parsed(name) for name in ids}
        self._by_id: dict[int, tuple[str, Any]] = {i: (name, self._readers[name]) for name, i in ids.items()}
        self._lookup = lookup

    @classmethod
    def offline(cls) -> Codec:
        """A codec with ids of its own, for a process without a registry (the memory engine, tests)."""
        return cls({name: i for i, name in enumerate(catalogue.names(), start=1)})

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Bytes of a record of the schema `name`. Raises ValueError or TypeError if it does not fit."""
        out = io.BytesIO()
        out.write(self._headers[name])
        fastavro.schemaless_writer(out, self._readers[name], record)
        return out.getvalue()

    def decode(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """(schema name, record). Raises WireError if the bytes are not a whole record of a schema we know."""
        if len(data) < HEADER.size:
            raise WireError("record is shorter than the five bytes of its header")
        magic, schema_id = HEADER.unpack_from(data)
        if magic != MAGIC:
            raise WireError(f"first byte is {magic}, not 0: not the Confluent wire format")
        name, writer = self._by_id.get(schema_id) or self._remember(schema_id)
        stream = io.BytesIO(data)
        stream.seek(HEADER.size)
        reader = self._readers[name]
        try:
            # Without a reader's schema fastavro does not compare the two for every record.
            record = fastavro.schemaless_reader(stream, writer, None if writer is reader else reader)
        except Exception as error:  # fastavro raises many kinds on broken bytes
            raise WireError(f"not a {name}: {type(error).__name__}: {error}", schema_id) from error
        if stream.tell() != len(data):
            raise WireError(f"{len(data) - stream.tell()} bytes left over after a {name}", schema_id)
        return name, cast(dict[str, Any], record)

    def _remember(self, schema_id: int) -> tuple[str, Any]:
        if self._lookup is None:
            raise WireError(f"unknown schema id {schema_id}", schema_id)
        try:
            schema = self._lookup(schema_id)
        except KeyError:
            raise WireError(f"unknown schema id {schema_id}", schema_id) from None
        name = str(schema.get("name", "")).rpartition(".")[2]
        if name not in self._readers:
            raise WireError(f"schema id {schema_id} is a {name or schema}, which has no place here", schema_id)
        writer = fastavro.parse_schema(plain(dict(schema)))
        self._by_id[schema_id] = (name, writer)
        return name, writer


class StateCodec:
    """Bare Avro for keyed state: one byte for the version of its schema, then the record of `schemas/state`."""

    def __init__(self) -> None:
        names = catalogue.names("state")
        self._schemas = {name: _parsed(name, "state") for name in names}
        self._versions = {name: bytes([catalogue.version(name)]) for name in names}
        self._past: dict[tuple[str, bytes], Any] = {}

    def encode(self, name: str, record: Mapping[str, Any]) -> bytes:
        """Bytes of a state record."""
        out = io.BytesIO()
        out.write(self._versions[name])
        fastavro.schemaless_writer(out, self._schemas[name], record)
        return out.getvalue()

    def decode(self, name: str, data: bytes) -> dict[str, Any]:
        """The state record; what an older version lacks has its default. Raises WireError for a younger version."""
        stream = io.BytesIO(data)
        version = stream.read(1)
        if version == self._versions[name]:
            return cast(dict[str, Any], fastavro.schemaless_reader(stream, self._schemas[name], None))
        return cast(
            dict[str, Any], fastavro.schemaless_reader(stream, self._writer(name, version), self._schemas[name])
        )

    def _writer(self, name: str, version: bytes) -> Any:
        if (name, version) not in self._past:
            try:
                schema = catalogue.past(name, version[0])
            except KeyError:
                newest = self._versions[name][0]
                raise WireError(f"state {name} has version {version[0]}, this code knows up to {newest}") from None
            self._past[name, version] = fastavro.parse_schema(plain(schema))
        return self._past[name, version]
