"""Rebuilds a complete partition of the lake from its topic: `python -m streams.replay usage 2026-11-02 9`.

For columns that are younger than a file, and for files that were damaged. The same records make the same rows, and no
reader of manifests sees a moment without them; for engines that list folders, the partition is not finished meanwhile.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import KafkaException

from schemas import registry
from schemas.addresses import Addresses
from schemas.wire import Codec
from streams import compaction, erasing, lake, partition
from streams.compaction import Place
from streams.lake import Table
from streams.manifest import Manifest
from streams.objects import Objects, ObjectsError, S3Objects
from streams.partition import Partition
from streams.topic_rows import Topic

# Rows held in memory before they go to a file of their own, which are joined at the end.
CHUNK: Final = 50_000
ARROW: Final = {
    "VARCHAR": pa.string(),
    "BLOB": pa.binary(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "DOUBLE": pa.float64(),
    "TIMESTAMP": pa.timestamp("ms"),
    "MAP(VARCHAR, BLOB)": pa.map_(pa.string(), pa.binary()),
}
FIRST_MS, LAST_MS = (int((datetime.fromisoformat(t) - datetime(1970, 1, 1)).total_seconds() * 1000) for t in lake.TIMES)


class ReplayError(Exception):
    """It was not rebuilt; the message says why, and nothing was changed."""


def replay(objects: Objects, topic: Topic, table: Table, of: Partition, now_ms: int) -> Manifest:
    """Rebuild; the manifest of what is there now. Raises ReplayError, KafkaException, ObjectsError."""
    if of.closes_ms > now_ms:
        raise ReplayError(f"{of.folder} is open: rows may still come")
    if not topic.has_all_since(of.opens_ms):
        raise ReplayError(f"the topic {table.name} no longer has all that was appended for {of.folder}")
    place = Place(table, f"{table.name}/{of.folder}/")
    with tempfile.TemporaryDirectory(prefix="replay-") as name:
        folder = Path(name)
        inputs = list(_collect(topic, table, of, folder))
        if topic.unreadable:
            raise ReplayError(f"{topic.unreadable} records of {table.name} cannot be read")
        if not inputs:
            raise ReplayError(f"the topic {table.name} has no row for {of.folder}")
        made = compaction.swap(objects, place, compaction.write(table, inputs, folder))
    # The topic still has what was erased since.
    if erasing.clean(objects, place, erasing.load(objects)):
        made = compaction.settle(objects, place)
    return made


def _collect(topic: Topic, table: Table, of: Partition, folder: Path) -> Iterator[Path]:
    """The rows of a partition, in files of CHUNK rows."""
    columns = lake.columns(table.schema)
    fields = pa.schema([(c.name, ARROW[c.duckdb]) for c in columns])
    rows: list[dict[str, Any]] = []
    number = 0

    def flush() -> Path:
        path = folder / f"chunk-{number}"
        pq.write_table(pa.Table.from_pylist(rows, fields), path)  # type: ignore[no-untyped-call]
        rows.clear()
        return path

    for row in topic.rows(of.opens_ms, of.closes_ms):
        if partition.of(row.record[table.time], row.appended_ms) == of:
            rows.append({c.name: _shown(c.duckdb, row.record[c.name]) for c in columns})
            if len(rows) == CHUNK:
                yield flush()
                number += 1
    if rows:
        yield flush()


def _shown(kind: str, value: Any) -> Any:
    """As lake.insert shows a value."""
    return min(max(value, FIRST_MS), LAST_MS) if kind == "TIMESTAMP" else value


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m streams.replay", description=__doc__)
    parser.add_argument("table", choices=[table.name for table in lake.TABLES])
    parser.add_argument("day", type=date.fromisoformat, help="YYYY-MM-DD, UTC")
    parser.add_argument(
        "hour", type=int, help=f"0 to 23; {partition.LATE}: late rows, {partition.STRANGE}: strange ones"
    )
    args = parser.parse_args()
    addresses = Addresses.of(os.environ)
    (table,) = [table for table in lake.TABLES if table.name == args.table]
    try:
        topic = Topic(addresses.kafka, table.name, _codec(addresses))
        now_ms = time.time_ns() // 1_000_000
        made = replay(S3Objects(addresses), topic, table, Partition(args.day, args.hour), now_ms)
    except (ReplayError, KafkaException, ObjectsError) as error:
        print(f"not rebuilt: {error}", file=sys.stderr)
        return 1
    print(f"{made.rows} rows in {len(made.files)} files: {table.name}/{Partition(args.day, args.hour).folder}")
    return 0


def _codec(addresses: Addresses) -> Codec:
    return registry.connect(addresses.registry)


if __name__ == "__main__":
    sys.exit(main())
