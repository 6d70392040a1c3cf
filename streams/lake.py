"""The lake as text: the SQL of its Flink job, generated from the .avsc. Pure.

The lake keeps no state but offsets and open files, and dedupes nothing: admission writes its topics through one
exactly-once Kafka sink, so what a read_committed reader sees is already one record per fact.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas import catalogue, topics


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the lake: its topic (which also names it), the schema of its records, its time column."""

    name: str
    schema: str
    time: str


TABLES: Final = (
    Table(topics.USAGE, "Usage", "completed_at"),
    Table(topics.RESPONSES, "Response", "completed_at"),
    Table(topics.AUDIT, "Audit", "at"),
    Table(topics.WASTE, "Waste", "at"),
    Table(topics.CREDITS, "Credit", "at"),
    Table(topics.SHADOWS, "Shadow", "at"),
    Table(topics.DEAD_LETTERS, "DeadLetter", "at"),
    Table(topics.BATCHES, "Batch", "ended_at"),
    Table(topics.LIMITS, "Limit", "at"),
)

# Avro type -> (Flink, DuckDB); infra/terraform/modules/lake has Glue's. A time has no zone: it is always UTC.
TYPES: Final = {
    "string": ("STRING", "VARCHAR"),
    "bytes": ("BYTES", "BLOB"),
    "int": ("INT", "INTEGER"),
    "long": ("BIGINT", "BIGINT"),
    "boolean": ("BOOLEAN", "BOOLEAN"),
    "double": ("DOUBLE", "DOUBLE"),
    "timestamp-millis": ("TIMESTAMP(3)", "TIMESTAMP"),
}
# Hive partitions are text: Athena's projection and DuckDB's pruning both compare them as they stand in the path.
PARTITIONS: Final = ("dt", "hour")


@dataclass(frozen=True, slots=True)
class Column:
    """A column with its type in both dialects."""

    name: str
    flink: str
    duckdb: str


def _types(avro: Any) -> tuple[str, str]:
    if isinstance(avro, str):
        return TYPES[avro]
    if isinstance(avro, list):
        (only,) = [_types(t) for t in avro if t != "null"]
        return only
    if avro["type"] == "map":
        flink, duck = _types(avro["values"])
        return f"MAP<STRING, {flink}>", f"MAP(VARCHAR, {duck})"
    if avro["type"] == "array":
        flink, duck = _types(avro["items"])
        return f"ARRAY<{flink}>", f"{duck}[]"
    return TYPES[avro.get("logicalType", avro["type"])]


def columns(schema: str) -> list[Column]:
    """The columns of a record schema in its order. KeyError or ValueError for a type that has no column."""
    fields = catalogue.raw(schema)["fields"]
    return [Column(f["name"], *_types(f["type"])) for f in fields]


def _nullable(avro: Any) -> bool:
    return isinstance(avro, list) and "null" in avro


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _with(options: Mapping[str, str]) -> str:
    return ",\n  ".join(f"{quote(k)} = {quote(v)}" for k, v in options.items())


def source(table: Table, kafka: str, registry: str) -> str:
    """CREATE TABLE for a topic. `kafka` is host:port, `registry` the base of its Confluent API.

    The reader's schema is our .avsc itself, so that a field younger than a record takes its declared default.
    """
    schema = catalogue.raw(table.schema)
    null = {f["name"]: "" if _nullable(f["type"]) else " NOT NULL" for f in schema["fields"]}
    body = ",\n  ".join(f"`{c.name}` {c.flink}{null[c.name]}" for c in columns(table.schema))
    options = {
        "connector": "kafka",
        "topic": table.name,
        "properties.bootstrap.servers": kafka,
        "properties.group.id": "lake",
        "properties.isolation.level": "read_committed",
        # Files are cut at checkpoints, so a fetch may wait: an idle lake asks four times a minute, not every 500 ms.
        "properties.fetch.max.wait.ms": "15000",
        "scan.startup.mode": "earliest-offset",
        "format": "avro-confluent",
        "avro-confluent.url": registry,
        "avro-confluent.schema": json.dumps(schema, separators=(",", ":")),
    }
    return f"CREATE TABLE `{table.name}_topic` (\n  {body}\n) WITH (\n  {_with(options)}\n)"


def sink(table: Table, root: str) -> str:
    """CREATE TABLE for the Parquet files below `root` (a URI without a slash at its end)."""
    body = ",\n  ".join(f"`{c.name}` {c.flink}" for c in columns(table.schema))
    options = {
        "connector": "filesystem",
        "path": f"{root}/{table.name}",
        "format": "parquet",
        "parquet.compression": "ZSTD",
        "parquet.utc-timezone": "true",
        "parquet.write.int64.timestamp": "true",
        "parquet.timestamp.time.unit": "millis",
        # Bounds the memory of an open file; a file lives for one checkpoint only.
        "parquet.block.size": str(16 * 1024 * 1024),
        # An hour that has had its time is marked complete with _SUCCESS; a late row marks it again.
        "sink.partition-commit.trigger": "process-time",
        "sink.partition-commit.delay": "1 h",
        "sink.partition-commit.policy.kind": "success-file",
        # No auto-compaction: it joins the files of one checkpoint, and one writer makes only one of them.
    }
    parts = "".join(f",\n  `{p}` STRING" for p in PARTITIONS)
    return (
        f"CREATE TABLE `{table.name}` (\n  {body}{parts}\n) PARTITIONED BY ({', '.join(f'`{p}`' for p in PARTITIONS)})"
        f" WITH (\n  {_with(options)}\n)"
    )


def insert(table: Table) -> str:
    """INSERT that carries a topic into its files, by UTC date and hour of the table's time."""
    names = ", ".join(f"`{c.name}`" for c in columns(table.schema))
    day, hour = (f"DATE_FORMAT(`{table.time}`, '{f}')" for f in ("yyyy-MM-dd", "HH"))
    return f"INSERT INTO `{table.name}` SELECT {names}, {day}, {hour} FROM `{table.name}_topic`"


def settings() -> dict[str, str]:
    """What the job needs of Flink wherever it runs. Where checkpoints lie is the cluster's choice."""
    return {
        "pipeline.name": "lake",
        # The file sink's committer is one task, part of a chain or not depending on this: it cannot be changed later.
        "parallelism.default": "1",
        "table.local-time-zone": "UTC",
        # Uids from the plan, in the order of the statements: a restore finds its state; add tables at the end.
        "table.exec.uid.generation": "ALWAYS",
        "execution.checkpointing.mode": "EXACTLY_ONCE",
        "execution.checkpointing.interval": "10 s",
        "execution.checkpointing.timeout": "2 min",
        # A slow or absent S3 must not end the job: it restarts until a checkpoint succeeds.
        "execution.checkpointing.tolerable-failed-checkpoints": "3",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "exponential-delay",
        # Its many tasks start ten seconds after a TaskManager died, when admission, for which callers wait, is back.
        "restart-strategy.exponential-delay.initial-backoff": "10 s",
        "restart-strategy.exponential-delay.max-backoff": "20 s",
        "restart-strategy.exponential-delay.reset-backoff-threshold": "1 min",
        # All state is operator state (offsets, open uploads), which lives on the heap in any backend.
        "state.backend.type": "hashmap",
    }


# A finished file. s3proxy writes it under a longer name first, and S3 shows nothing of an unfinished upload.
_PART: Final = re.compile(r"part-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+-\d+")


def is_committed(path: str) -> bool:
    """Whether a path names a Parquet file that the lake has finished, by the form of its name alone."""
    return _PART.fullmatch(path.rpartition("/")[2]) is not None


def view(table: Table, files: Sequence[str]) -> str:
    """DuckDB's CREATE VIEW over `files`. Every column of the .avsc is there, also before the first file has it."""
    typed = ", ".join(f'NULL::{c.duckdb} AS "{c.name}"' for c in columns(table.schema))
    empty = f"SELECT {typed}, NULL::DATE AS dt, NULL::INTEGER AS hour WHERE false"
    if not files:
        return f'CREATE VIEW "{table.name}" AS {empty}'
    listed = ", ".join(quote(f) for f in files)
    parquet = (
        f"SELECT * FROM read_parquet([{listed}], union_by_name = true, hive_partitioning = true, "
        "hive_types = {'dt': DATE, 'hour': INTEGER})"
    )
    return f'CREATE VIEW "{table.name}" AS {empty} UNION ALL BY NAME {parquet}'
