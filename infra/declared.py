"""Writes infra/terraform/declared.json: topics, tables, folders and queries, as the code declares them.

Terraform reads it, and the .avsc files themselves, so that nothing is written twice. `make records` after a change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import sqlglot

from schemas import catalogue, topics
from schemas.topics import Topic
from streams import lake

CHECKOUT: Final = Path(__file__).parents[1]
FILE: Final = CHECKOUT / "infra" / "terraform" / "declared.json"
VIEWS: Final = CHECKOUT / "streams" / "views"
DIALECTS: Final = ("athena", "snowflake")
# What gateway and batcher keep in the bucket, as ingest/places.py names it; the rest of the bucket is not theirs.
FOLDERS: Final = (
    "batches/",
    "capacity/",
    "enqueued/",
    "expiring/",
    "files/",
    "idempotency/",
    "open/",
    "parts/",
    "plans/",
    "sweeper.json",
    "uploads/",
)


def _topic(topic: Topic) -> dict[str, Any]:
    return {"partitions": topic.partitions, "settings": topic.settings()}


def _file(schema: str) -> str:
    """Name of the .avsc file of a record."""
    (path,) = [p for p in (catalogue.HERE / "avro").glob("*.avsc") if json.loads(p.read_text())["name"] == schema]
    return path.name


def query(text: str, dialect: str) -> dict[str, str]:
    """A view of streams/views in another dialect; what stands in comments above it is its description."""
    lines = text.strip().splitlines()
    head = [line for line in lines if line.startswith("--")]
    body = "\n".join(line for line in lines if not line.startswith("--"))
    (sql,) = sqlglot.transpile(body, read="duckdb", write=dialect, pretty=True)
    return {"description": " ".join(line.removeprefix("--").strip() for line in head), "sql": sql}


def declared() -> dict[str, Any]:
    """The content of the file."""
    fixed = (*topics.FIXED, topics.replies("gateway"))
    return {
        "folders": list(FOLDERS),
        "lanes": list(topics.LANES),
        "patterns": {"intake": _topic(topics.intake("t")), "work": _topic(topics.work("p", "l"))},
        "queries": {
            dialect: {path.stem: query(path.read_text(), dialect) for path in sorted(VIEWS.glob("*.sql"))}
            for dialect in DIALECTS
        },
        "tables": {table.name: {"schema": _file(table.schema), "time": table.time} for table in lake.TABLES},
        "topics": {topic.name: _topic(topic) for topic in fixed},
    }


def render() -> str:
    """The text of the file."""
    return json.dumps(declared(), indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write it."""
    FILE.write_text(render())


if __name__ == "__main__":
    main()
