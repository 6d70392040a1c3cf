"""The lake as text: the SQL of its Flink job, generated from the .avsc. Pure.

The lake keeps no state but offsets and open files, and dedupes nothing: admission writes its topics through one
exactly-once Kafka sink, so what a read_committed reader sees is already one record per fact. Its job only adds files to
the partitions that streams/partition.py names; streams/compactor.py finishes those that are complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from schemas import catalogue, topics
from streams import partition


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
# The earliest and the latest time that a column holds.
TIMES: Final = ("0001-01-01 00:00:00.000", "9999-12-31 23:59:59.999")
# The broker's time of a record; no field is called so.
APPENDED: Final = "appended_at_broker"
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
        return f"MAP<STRING NOT NULL, {flink}{_null(avro['values'])}>", f"MAP(VARCHAR, {duck})"
    if avro["type"] == "array":
        flink, duck = _types(avro["items"])
        return f"ARRAY<{flink}{_null(avro['items'])}>", f"{duck}[]"
    return TYPES[avro.get("logicalType", avro["type"])]


def columns(name: str) -> list[Column]:
    """The columns of a record schema in its order. KeyError or ValueError for a type that has no column."""
    fields = catalogue.raw(name)["fields"]
    return [Column(f["name"], *_types(f["type"])) for f in fields]


def schema(table: Table) -> dict[str, Any]:
    """The schema of a table's records, as it is registered."""
    return catalogue.raw(table.schema)


def _null(avro: Any) -> str:
    """What follows a type in Flink: it compares nullability with the Avro schema, also inside maps and arrays."""
    return "" if isinstance(avro, list) and "null" in avro else " NOT NULL"


def quote(text: str) -> str:
    """A SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def _with(options: Mapping[str, str]) -> str:
    return ",\n  ".join(f"{quote(k)} = {quote(v)}" for k, v in options.items())


def source(table: Table, kafka: str, registry: str) -> str:
    """CREATE TABLE for a topic. `kafka` is host:port, `registry` the base of its Confluent API.

    The reader's schema is our .avsc itself, so that a field younger than a record takes its declared default.
    """
    known = schema(table)
    null = {f["name"]: _null(f["type"]) for f in known["fields"]}
    body = ",\n  ".join(f"`{c.name}` {c.flink}{null[c.name]}" for c in columns(table.schema))
    body += f",\n  `{APPENDED}` TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL"
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
        "avro-confluent.schema": json.dumps(known, separators=(",", ":")),
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
        # No auto-compaction: it joins the files of one checkpoint, and one writer makes only one of them. No commit of
        # partitions: Flink would call one finished by the clock, also while its rows are still in Kafka.
    }
    parts = "".join(f",\n  `{p}` STRING" for p in PARTITIONS)
    return (
        f"CREATE TABLE `{table.name}` (\n  {body}{parts}\n) PARTITIONED BY ({', '.join(f'`{p}`' for p in PARTITIONS)})"
        f" WITH (\n  {_with(options)}\n)"
    )


def insert(table: Table) -> str:
    """INSERT that carries a topic into its files, each row into the partition that partition.of names.

    A time that no engine could show is moved to the nearest that all can; so its row does not spoil the others' file.
    """
    shown = ", ".join(_shown(c) for c in columns(table.schema))
    at, appended = f"`{table.time}`", f"CAST(`{APPENDED}` AS TIMESTAMP(3))"
    first, last = (
        f"{appended} - {_interval(partition.MAX_LATE_MS)}",
        f"{appended} + {_interval(partition.MAX_AHEAD_MS)}",
    )
    strange = f"{at} < {first} OR {at} > {last}"
    late = f"FLOOR({at} TO HOUR) <= {appended} - {_interval(partition.HOUR_MS + partition.GRACE_MS)}"
    day = f"CASE WHEN {strange} THEN DATE_FORMAT({appended}, 'yyyy-MM-dd') ELSE DATE_FORMAT({at}, 'yyyy-MM-dd') END"
    hour = (
        f"CASE WHEN {strange} THEN '{partition.STRANGE}' WHEN {late} THEN '{partition.LATE}' "
        f"ELSE DATE_FORMAT({at}, 'HH') END"
    )
    return f"INSERT INTO `{table.name}` SELECT {shown}, {day}, {hour} FROM `{table.name}_topic`"


def _interval(ms: int) -> str:
    """An interval of Flink's SQL, whose minutes have two digits."""
    if ms % partition.DAY_MS == 0:
        return f"INTERVAL '{ms // partition.DAY_MS}' DAY"
    minutes, rest = divmod(ms, 60_000)
    assert rest == 0 and minutes < 100, f"{ms} ms cannot be written"
    return f"INTERVAL '{minutes}' MINUTE"


def _shown(column: Column) -> str:
    name = f"`{column.name}`"
    if column.flink != TYPES["timestamp-millis"][0]:
        return name
    first, last = (f"TIMESTAMP '{moment}'" for moment in TIMES)
    return f"CASE WHEN {name} < {first} THEN {first} WHEN {name} > {last} THEN {last} ELSE {name} END"


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


def view(table: Table, files: Sequence[str], *, partitioned: bool = True, tenant: str = "") -> str:
    """DuckDB's CREATE VIEW over `files`. Every column of the .avsc is there, also before the first file has it.

    `partitioned` files lie in folders that give dt and hour. Of a `tenant` only its own rows are shown.
    """
    typed = ", ".join(f'NULL::{c.duckdb} AS "{c.name}"' for c in columns(table.schema))
    parts = ", NULL::DATE AS dt, NULL::INTEGER AS hour" if partitioned else ""
    rows = f"SELECT {typed}{parts} WHERE false"
    if files:
        listed = ", ".join(quote(f) for f in files)
        types = ", hive_partitioning = true, hive_types = {'dt': DATE, 'hour': INTEGER}" if partitioned else ""
        rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{listed}], union_by_name = true{types})"
    only = f" WHERE tenant = {quote(tenant)}" if tenant else ""
    return f'CREATE VIEW "{table.name}" AS SELECT * FROM ({rows}){only}'
