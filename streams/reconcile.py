"""Proves a day to the token: `python -m streams.reconcile --day 2026-11-02`. Prints where the books differ.

Three equations, each row by row and not only in sum:

1. Engine tokens = billed + waste: every completion of an engine, as the journal has it, has one row in `usage` or
   `waste` for its attempt, with its tokens; and every such row has its completion.
2. The journal = `usage`: every request of the day has one row.
3. The topics = Parquet: the rows of `usage`, `waste` and `credits` in files are those of their topics.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
from confluent_kafka import KafkaException

from schemas import registry, topics
from schemas.addresses import Addresses
from schemas.wire import Codec
from streams import lake_sql, partition
from streams.topic_rows import Topic

CHUNK: Final = 50_000
SHOWN: Final = 20
# A row of the day may be decided by a record of the one before or after: a retry, a deadline.
MARGIN_MS: Final = partition.MAX_LATE_MS
# table -> its columns in these books, in the order of KEEP below; `at` says when it was decided.
ROWS: Final = {
    topics.USAGE: ("tenant", "request_id", "attempt", "input_tokens", "output_tokens", "cost_micros", "completed_at"),
    topics.WASTE: ("tenant", "request_id", "attempt", "input_tokens", "output_tokens", None, "at"),
    topics.CREDITS: ("tenant", "entry_id", "kind", None, None, "amount_micros", "at"),
}
KEEP: Final = (("tenant", "VARCHAR"), ("id", "VARCHAR"), ("attempt", "VARCHAR"), ("input", "BIGINT"),
               ("output", "BIGINT"), ("micros", "BIGINT"))  # fmt: skip
COLUMNS: Final = ", ".join(name for name, _ in KEEP)
# `cancellations` may be the first and only mention of a batch line.
BOOKS: Final = ("topic_usage", "topic_waste", "topic_credits", "completions", "requests", "cancellations")


class Equation(NamedTuple):
    """One equation: what it says, and the rows that break it, each with why."""

    what: str
    differences: list[tuple[Any, ...]]


def books(db: duckdb.DuckDBPyConnection) -> None:
    """Make the empty tables that `take` and the SQL of EQUATIONS know."""
    columns = ", ".join(f"{name} {kind}" for name, kind in KEEP)
    for name in BOOKS:
        db.execute(f"CREATE TABLE {name} ({columns}, dt DATE)")


def take(db: duckdb.DuckDBPyConnection, book: str, rows: Iterable[Sequence[Any]]) -> int:
    """Enter rows (KEEP, dt) into a book, in pieces; how many."""
    piece: list[Sequence[Any]] = []
    total = 0

    def enter() -> None:
        names = [*(name for name, _ in KEEP), "dt"]
        table = pa.table({name: [row[i] for row in piece] for i, name in enumerate(names)})
        db.register("piece", table)
        db.execute(f"INSERT INTO {book} SELECT * FROM piece")
        db.unregister("piece")
        piece.clear()

    for row in rows:
        piece.append(row)
        total += 1
        if len(piece) == CHUNK:
            enter()
    if piece:
        enter()
    return total


def of_table(name: str, topic: Topic, start_ms: int, end_ms: int) -> Iterator[tuple[Any, ...]]:
    """Rows of a topic as its book has them, with the day of the partition they belong to."""
    columns = ROWS[name]
    for row in topic.rows(start_ms, end_ms):
        values = tuple(row.record[c] if c is not None else 0 for c in columns[:-1])
        yield (*values, partition.of(row.record[str(columns[-1])], row.appended_ms).day)


def of_journal(topic: Topic, start_ms: int, end_ms: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Book and row of each request, and of each completion that an engine spent tokens on."""
    for schema, r, at_ms in topic.rows(start_ms, end_ms):
        day = datetime.fromtimestamp(at_ms / 1000, UTC).date()
        if schema in ("Request", "Cancellation"):
            book = "requests" if schema == "Request" else "cancellations"
            yield book, (r["tenant"], r["request_id"], "", 0, 0, 0, day)
        elif schema == "Completion" and (r["input_tokens"] or r["output_tokens"]):
            tokens = (r["input_tokens"], r["output_tokens"])
            yield "completions", (r["tenant"], r["request_id"], r["attempt"], *tokens, 0, day)


# The difference of two sets of rows, both ways. A book may have a record twice where it is written at least once.
_ENGINE = """
WITH spent AS (SELECT DISTINCT tenant, attempt, input, output, dt FROM completions),
accounted AS (
  SELECT 'usage' AS book, tenant, attempt, input, output, dt FROM topic_usage WHERE attempt <> '' AND input + output > 0
  UNION ALL SELECT 'waste', tenant, attempt, input, output, dt FROM topic_waste WHERE input + output > 0)
SELECT 'attempt ' || coalesce(s.attempt, a.attempt) AS what, coalesce(s.tenant, a.tenant) AS tenant,
  CASE WHEN a.attempt IS NULL THEN 'the engine spent ' || (s.input + s.output) || ' tokens, in no row'
    WHEN s.attempt IS NULL THEN 'a row of ' || a.book || ' has ' || (a.input + a.output)
      || ' tokens, no engine spent them'
    WHEN a.n > 1 THEN 'it is in ' || a.n || ' rows'
    ELSE 'the engine spent ' || s.input || '+' || s.output || ', ' || a.book || ' has '
      || a.input || '+' || a.output END
FROM spent s FULL JOIN (SELECT *, count(*) OVER (PARTITION BY tenant, attempt) AS n FROM accounted) a
  ON a.tenant = s.tenant AND a.attempt = s.attempt
WHERE coalesce(s.dt, a.dt) = $day
  AND (s.attempt IS NULL OR a.attempt IS NULL OR a.n > 1 OR s.input <> a.input OR s.output <> a.output)
ORDER BY ALL"""
_JOURNAL = """
WITH asked AS (SELECT tenant, id, min(dt) AS dt FROM requests GROUP BY tenant, id),
told AS (SELECT tenant, id, count(*) AS n, min(dt) AS dt FROM topic_usage GROUP BY tenant, id)
SELECT 'request ' || coalesce(a.id, t.id), coalesce(a.tenant, t.tenant),
  CASE WHEN t.id IS NULL THEN 'it has no row in usage' WHEN t.n > 1 THEN 'it has ' || t.n || ' rows in usage'
    ELSE 'its row in usage has no request' END
FROM asked a FULL JOIN told t ON t.tenant = a.tenant AND t.id = a.id
WHERE coalesce(t.dt, a.dt) = $day AND (t.id IS NULL OR t.n > 1 OR (a.id IS NULL
    AND NOT EXISTS (SELECT 1 FROM cancellations c WHERE c.tenant = t.tenant AND c.id = t.id)))
ORDER BY ALL"""
_FILES = """
WITH topic AS (SELECT {columns}, count(*) AS n FROM topic_{table} WHERE dt = $day GROUP BY ALL),
files AS (SELECT {columns}, count(*) AS n FROM files_{table} WHERE dt = $day GROUP BY ALL)
SELECT '{table} ' || coalesce(t.id, f.id), coalesce(t.tenant, f.tenant),
  coalesce(t.n, 0) || ' in the topic, ' || coalesce(f.n, 0) || ' in Parquet: tokens '
  || coalesce(t.input, f.input) || '+' || coalesce(t.output, f.output) || ', micros ' || coalesce(t.micros, f.micros)
FROM topic t FULL JOIN files f ON {equal}
WHERE t.n IS DISTINCT FROM f.n
ORDER BY ALL"""


def equations(db: duckdb.DuckDBPyConnection, day: date) -> list[Equation]:
    """All three, over the books and the views files_usage, files_waste and files_credits."""
    found = [
        Equation("engine tokens = billed + waste", _run(db, _ENGINE, day)),
        Equation("requests of the journal = rows of usage", _run(db, _JOURNAL, day)),
    ]
    equal = " AND ".join(f"t.{name} = f.{name}" for name, _ in KEEP)
    for table in ROWS:
        sql = _FILES.format(columns=COLUMNS, table=table, equal=equal)
        found.append(Equation(f"topic {table} = Parquet", _run(db, sql, day)))
    return found


def _run(db: duckdb.DuckDBPyConnection, sql: str, day: date) -> list[tuple[Any, ...]]:
    return db.execute(sql, {"day": day}).fetchall()


def files_view(table: str) -> str:
    """CREATE VIEW files_<table> over the lake's view, with the columns of its book."""
    shown = ", ".join(
        f"{f'CAST({c} AS {kind})' if c is not None else '0'} AS {name}"
        for c, (name, kind) in zip(ROWS[table][:-1], KEEP, strict=True)
    )
    return f"CREATE VIEW files_{table} AS SELECT {shown}, dt FROM {table}"


def totals(db: duckdb.DuckDBPyConnection, day: date) -> list[str]:
    """What the day comes to, in words."""
    sums = "SELECT count(*), coalesce(sum(input + output), 0), coalesce(sum(micros), 0) FROM {} WHERE dt = $day"
    rows = {
        name: _run(db, sums.format(name), day)[0]
        for name in ("topic_usage", "topic_waste", "topic_credits", "files_usage")
    }
    ((spent,),) = _run(
        db,
        "SELECT coalesce(sum(input + output), 0) FROM (SELECT DISTINCT tenant, attempt, input, output FROM completions "
        "WHERE dt = $day)",
        day,
    )
    usage, waste, credits, files = rows.values()
    return [
        f"engines spent {spent:,} tokens; {usage[1]:,} billed + {waste[1]:,} waste = {usage[1] + waste[1]:,}",
        f"{usage[0]:,} rows of usage in the topic, {files[0]:,} in Parquet; {usage[2]:,} and {files[2]:,} micro-units",
        f"{credits[0]:,} credits and refunds of {credits[2]:,} micro-units",
    ]


def collect(db: duckdb.DuckDBPyConnection, addresses: Addresses, codec: Codec, day: date) -> int:
    """Fill the books from Kafka; how many records could not be read. Raises KafkaException."""
    begin_ms = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)
    end_ms = begin_ms + partition.DAY_MS + MARGIN_MS
    unreadable = 0
    for name in ROWS:
        topic = Topic(addresses.kafka, name, codec)
        take(db, f"topic_{name}", of_table(name, topic, begin_ms - MARGIN_MS, end_ms))
        unreadable += topic.unreadable
        topic.close()
    topic = Topic(addresses.kafka, topics.JOURNAL, codec)
    pieces: dict[str, list[tuple[Any, ...]]] = {book: [] for book in BOOKS}
    for book, row in of_journal(topic, begin_ms - MARGIN_MS, end_ms):
        pieces[book].append(row)
        if len(pieces[book]) == CHUNK:
            take(db, book, pieces[book])
            pieces[book] = []
    for book, rows in pieces.items():
        take(db, book, rows)
    unreadable += topic.unreadable
    topic.close()
    return unreadable


def main() -> int:
    """Exit status: 0 where nothing differs, 1 where something does, 2 where it could not be found out."""
    parser = argparse.ArgumentParser(prog="python -m streams.reconcile", description=__doc__)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    parser.add_argument(
        "--day", type=date.fromisoformat, default=yesterday, help="YYYY-MM-DD, UTC; yesterday by default"
    )
    day: date = parser.parse_args().day
    addresses, began = Addresses.of(os.environ), time.monotonic()
    try:
        db = lake_sql.connect(addresses)
        books(db)
        unreadable = collect(db, addresses, registry.connect(addresses.registry), day)
        for table in ROWS:
            db.execute(files_view(table))
        found = equations(db, day)
        print("\n".join(totals(db, day)))
    except (KafkaException, duckdb.Error, OSError) as error:
        print(f"not reconciled: {error}", file=sys.stderr)
        return 2
    for equation in found:
        print(f"{len(equation.differences):>9,} differences  {equation.what}")
        for what, tenant, why in equation.differences[:SHOWN]:
            print(f"           {tenant}  {what}: {why}")
        if len(equation.differences) > SHOWN:
            print(f"           and {len(equation.differences) - SHOWN:,} more")
    if unreadable:
        print(f"{unreadable:>9,} records could not be read")
    print(f"{day}: {time.monotonic() - began:.1f} s")
    return 1 if unreadable or any(equation.differences for equation in found) else 0


if __name__ == "__main__":
    sys.exit(main())
