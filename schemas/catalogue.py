"""The Avro schemas of this checkout, parsed once."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

import fastavro

HERE: Final = Path(__file__).parent


@cache
def raw(name: str, folder: str = "avro") -> dict[str, Any]:
    """The schema called `name` (such as "Usage") as written in its .avsc; KeyError if there is none."""
    for path in sorted((HERE / folder).glob("*.avsc")):
        schema: dict[str, Any] = json.loads(path.read_text())
        if schema["name"] == name:
            return schema
    raise KeyError(f"no schema {name!r} in schemas/{folder}")


@cache
def parsed(name: str, folder: str = "avro") -> Any:
    """The schema prepared for fastavro."""
    return fastavro.parse_schema(raw(name, folder))


@cache
def names(folder: str = "avro") -> tuple[str, ...]:
    """Names of all record schemas in a folder, sorted."""
    return tuple(sorted(json.loads(p.read_text())["name"] for p in (HERE / folder).glob("*.avsc")))


@cache
def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema in `schemas/json` called `name`."""
    schema: dict[str, Any] = json.loads((HERE / "json" / f"{name}.json").read_text())
    return schema


def version(name: str) -> int:
    """Version of a state schema, from 1; the first byte of what it writes."""
    return int(raw(name, "state").get("version", 1))


def past(name: str, number: int) -> dict[str, Any]:
    """A state schema as it was at an earlier version; KeyError if there was none."""
    path = HERE / "state" / "past" / f"{name}.{number}.avsc"
    if not path.is_file():
        raise KeyError(f"no version {number} of the state schema {name!r}")
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema
