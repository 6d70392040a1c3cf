"""Writes the golden bytes of a version: `python -m tests.golden.write v2`, once, after a schema changed.

A version that was written is never written again: its bytes are what running systems hold.
"""

import json
import sys
from pathlib import Path
from typing import Any

import fastavro

from schemas import catalogue
from schemas.wire import plain

HERE = Path(__file__).parent


def sample(schema: Any, name: str = "x") -> Any:
    """A value of the schema that differs from every default."""
    if isinstance(schema, list):
        return sample(schema[-1], name)
    kind = schema if isinstance(schema, str) else schema["type"]
    if kind == "record":
        return {f["name"]: sample(f["type"], f["name"]) for f in schema["fields"]}
    if kind == "array":
        return [sample(schema["items"], name)]
    if kind == "map":
        return {"k": sample(schema["values"], name)}
    values = {"string": f"{name} é", "bytes": b"\x00\xff" + name.encode(), "boolean": True, "double": 0.5, "null": None}
    return values.get(kind, 7 + len(name))


def encoded(schema: Any, record: Any) -> bytes:
    """Bare Avro of a record."""
    import io

    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), record)
    return out.getvalue()


def main(version: str) -> None:
    """Write every schema's sample into a new folder."""
    folder = HERE / version
    folder.mkdir()
    for where in ("avro", "state"):
        for name in catalogue.names(where):
            schema = catalogue.raw(name, where)
            text = {"schema": plain(schema), "bytes": encoded(schema, sample(schema)).hex()}
            (folder / f"{where}-{name}.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
