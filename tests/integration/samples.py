"""Records for tests: every field filled by its type, but for those a test cares about."""

from __future__ import annotations

from typing import Any

from schemas import catalogue

FILL = {"string": "x", "bytes": b"", "int": 1, "long": 1, "boolean": False, "double": 1.0}


def record(schema: str, **fields: Any) -> dict[str, Any]:
    """A record of `schemas/avro` with `fields`; numbers and times are 1, texts "x"."""
    declared = catalogue.raw(schema)["fields"]
    unknown = fields.keys() - {field["name"] for field in declared}
    assert not unknown, f"{schema} has no {unknown}"
    return {field["name"]: _fill(field["type"]) for field in declared} | fields


def _fill(avro: Any) -> Any:
    if isinstance(avro, list):
        return None
    if isinstance(avro, str):
        return FILL[avro]
    return {"map": {}, "array": [], **FILL}[avro["type"]]
