"""Made-up rows of the lake, the same for the same arguments on every machine: for tests of its views, in whatever
engine, and for measuring them at size. DuckDB makes them from a running number; nothing is random.

`fill` makes tables of `rows` requests in a database; `write` puts them into Parquet as the lake has them;
`bulk` writes any number of usage rows, an hour at a time, in the memory of one hour.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb

from streams import lake

FIRST_DAY: Final = date(2026, 11, 2)
TENANTS: Final = 8
HOUR_MS: Final = 3_600_000
# Multiplicative hashing (Knuth): digits of a running number that look like chance, by arithmetic alone.
_PRIME: Final = 2_654_435_761


def _draw(salt: int, among: int) -> str:
    """SQL: a number below `among`, from the row's number `i`."""
    return f"((((i + {salt * 7_919}) * {_PRIME}) % 4294967296 // {1 + salt % 13}) % {among})"


def _usage(rows: int, first: int, start_ms: int, span_ms: int, tenants: int) -> str:
    """SELECT of usage rows numbered from `first`, taken over `span_ms` from `start_ms` on."""
    return f"""
    WITH numbers AS (SELECT range AS i FROM range({first}, {first + rows})),
    drawn AS (
      SELECT i, {_draw(1, 100)} AS fate, {_draw(2, 100)} AS lot, {_draw(3, tenants)} AS t1, {_draw(4, tenants)} AS t2,
        20 + {_draw(5, 780)} AS prompt, 1 + {_draw(6, 255)} AS answer, {_draw(7, 300)} AS queue,
        40 + {_draw(8, 400)} AS first_ms, {_draw(9, 2000)} AS run, {_draw(10, 3)} AS worker, {_draw(11, 10)} AS side,
        {_draw(12, 50)} AS person, {_draw(13, 20)} AS step,
        -- Twenty at a time, so that requests overlap however few they are.
        {start_ms} + (i - {first}) // 20 * 20 * {span_ms} // {rows} + i % 20 * 40 AS received_ms
      FROM numbers
    ),
    known AS (
      SELECT *,
        CASE WHEN fate < 90 THEN 'completed' WHEN fate < 92 THEN 'blocked' WHEN fate < 95 THEN 'refused'
          WHEN fate < 97 THEN 'failed' WHEN fate < 98 THEN 'expired' WHEN fate < 99 THEN 'cancelled'
          ELSE 'interrupted' END AS status,
        CASE WHEN fate >= 90 THEN 'none' WHEN lot < 70 THEN 'miss' WHEN lot < 90 THEN 'hit'
          ELSE 'follower' END AS cache,
        CASE WHEN lot % 10 < 4 THEN 'batch' WHEN lot % 10 < 6 THEN 'standard' ELSE 'interactive' END AS lane,
        CASE WHEN side < 6 THEN 'm' WHEN side < 9 THEN 'chat-a' ELSE 'chat-b' END AS model,
        CAST((prompt * 50000 + answer * 200000 + 500000) // 1000000 AS BIGINT) AS full_micros
      FROM drawn
    ),
    ran AS (
      SELECT *, (cache = 'miss' OR status IN ('interrupted', 'failed')) AS ran,
        (cache = 'miss' OR status = 'interrupted') AS billed, cache IN ('hit', 'follower') AS shared
      FROM known
    )
    SELECT
      md5(CAST(i AS VARCHAR)) AS request_id,
      'tenant-' || CAST(least(t1, t2) AS VARCHAR) AS tenant,
      'key-' || CAST(i % 2 AS VARCHAR) AS key_id,
      model,
      CASE WHEN side < 6 THEN 'm' ELSE 'chat' END AS requested_model,
      CASE WHEN NOT ran THEN '' WHEN step = 0 THEN 'spare' ELSE 'local' END AS pool,
      lane,
      CASE WHEN lane = 'batch' THEN 'batch_' || CAST(i // 1000 AS VARCHAR) ELSE '' END AS batch_id,
      CASE WHEN lane = 'batch' THEN i % 1000 + 1 ELSE 0 END AS line,
      status,
      CASE status WHEN 'completed' THEN '' WHEN 'blocked' THEN 'content_blocked' WHEN 'refused' THEN 'quota_exceeded'
        ELSE status END AS error_code,
      cache,
      CASE WHEN billed THEN prompt ELSE 0 END AS input_tokens,
      CASE WHEN billed THEN answer ELSE 0 END AS output_tokens,
      CASE WHEN billed AND lot % 3 = 0 THEN prompt // 2 ELSE 0 END AS cached_tokens,
      0 AS reasoning_tokens,
      0 AS debt_tokens,
      CASE WHEN NOT billed THEN 0 WHEN lane = 'batch' THEN full_micros // 2 ELSE full_micros END AS cost_micros,
      '2026-11' AS price_version,
      make_timestamp(received_ms * 1000) AS received_at,
      make_timestamp((received_ms + CASE WHEN ran THEN queue + first_ms + run ELSE 1 END) * 1000) AS completed_at,
      CASE WHEN ran THEN queue ELSE 0 END AS queue_ms,
      CASE WHEN ran THEN queue + first_ms ELSE 0 END AS first_token_ms,
      CASE WHEN ran THEN queue + first_ms + run ELSE 1 END AS total_ms,
      CASE WHEN ran THEN md5(CAST(i AS VARCHAR) || '.0') ELSE '' END AS attempt,
      CASE WHEN ran THEN 'llama' ELSE '' END AS engine,
      CASE WHEN ran THEN 'q4_1' ELSE '' END AS precision,
      CASE WHEN ran THEN 'worker-' || CAST(worker AS VARCHAR) ELSE '' END AS worker,
      'v1' AS policy_version,
      CASE WHEN ran AND step = 0 THEN 1 ELSE 0 END AS route_step,
      CASE WHEN side < 6 THEN '' WHEN side < 9 THEN 'A' ELSE 'B' END AS cohort,
      CASE WHEN shared THEN prompt ELSE 0 END AS shared_input_tokens,
      CASE WHEN shared THEN answer ELSE 0 END AS shared_output_tokens,
      CASE WHEN billed OR shared THEN full_micros ELSE 0 END AS list_micros,
      CASE WHEN person < 5 THEN md5('user' || CAST(person AS VARCHAR)) ELSE '' END AS "user"
    FROM ran"""


def _others(rows: int) -> dict[str, str]:
    """SELECTs of the other tables, from the table `usage`; the ends of the first day's batches lie in it."""
    last = f"TIMESTAMP '{FIRST_DAY} 00:00:00'"
    return {
        "responses": """
            SELECT request_id, tenant, model, status, CASE status WHEN 'completed' THEN 200 ELSE 502 END AS
            http_status, '{"text":"' || request_id || '"}' AS body, batch_id, CASE WHEN line > 0 THEN 'line-' ||
            line ELSE '' END AS custom_id, '' AS correlation_id, completed_at FROM usage""",
        "audit": """
            SELECT request_id, tenant, s.stage, s.rule, s.action, 1 + length(tenant || model) % 3 AS matches,
            'r1' AS rule_set, completed_at AS at FROM usage, (VALUES ('request', 'phrase', 'block'),
            ('response', 'card', 'mask')) s(stage, rule, action) WHERE (status = 'blocked' AND s.stage =
            'request') OR (status = 'completed' AND input_tokens % 17 = 0 AND s.stage = 'response')""",
        "waste": """
            SELECT request_id, tenant, attempt || '.w' AS attempt, pool, worker, 'failed' AS reason, 11 AS
            input_tokens, 3 AS output_tokens, completed_at AS at FROM usage WHERE status = 'failed'""",
        "credits": f"""
            SELECT 'tenant-' || i AS tenant, 'e' || i AS entry_id, CASE WHEN i % 2 = 0 THEN 'credit' ELSE
            'refund' END AS kind, 1000 * (i + 1) AS amount_micros, '' AS request_id, 'test' AS reason, 'op' AS
            booked_by, 5000 AS balance_micros, {last} + to_hours(CAST(i AS BIGINT)) AS at FROM range(4) t(i)""",
        "shadows": """
            SELECT request_id, tenant, model, 'candidate' AS shadow_model, 'spare' AS pool, CASE WHEN
            input_tokens % 10 = 0 THEN 'failed' ELSE 'ok' END AS outcome, 200 AS http_status, '' AS body,
            input_tokens, output_tokens, first_token_ms - queue_ms AS first_token_ms, total_ms - queue_ms AS
            total_ms, completed_at AS at FROM usage WHERE cache = 'miss' AND input_tokens % 5 = 0""",
        "dead_letters": f"""
            SELECT 'tenant-0' AS tenant, 'intake.tenant-0' AS source_topic, 0 AS partition, i AS "offset",
            'first byte is 7' AS reason, NULL AS schema_id, NULL AS key, CAST('x' AS BLOB) AS value,
            {last} +
            to_minutes(CAST(i AS BIGINT)) AS at, MAP {{}}::MAP(VARCHAR, BLOB) AS headers, false AS truncated
            FROM range(5) t(i)""",
        # A batch in three is there twice, as after a kill of the batcher.
        "batches": f"""
            SELECT 'batch_' || b.i AS batch_id, 'tenant-' || (b.i % 4) AS tenant, 'key-0' AS key_id,
            '/v1/chat/completions' AS endpoint, 'm' AS model, CASE b.i % 5 WHEN 4 THEN 'expired' WHEN 3 THEN
            'cancelled' ELSE 'completed' END AS status, 3600 AS window_s, 100 + b.i AS lines, CASE WHEN b.i % 5
            < 3 THEN 98 + b.i ELSE 50 END AS completed_lines, CASE WHEN b.i % 5 < 3 THEN 2 ELSE 50 + b.i END AS
            failed_lines, CASE b.i % 5 WHEN 4 THEN 50 + b.i ELSE 0 END AS expired_lines, CASE b.i % 5 WHEN 3
            THEN 50 + b.i ELSE 0 END AS cancelled_lines, 1000 AS input_tokens, 0 AS cached_tokens, 500 AS
            output_tokens, 0 AS reasoning_tokens, 'file-i' AS input_file_id, 'file-o' AS output_file_id, '' AS
            error_file_id, '' AS error_code, '' AS retry_of, {last} + to_minutes(b.i * 7) AS created_at, {last}
            + to_minutes(b.i * 7 + 1) AS started_at, {last} + to_minutes(b.i * 7 + 60) AS deadline_at, {last} +
            to_minutes(b.i * 7 + CASE b.i % 5 WHEN 4 THEN 60 ELSE 2 + b.i * 11 % 50 END) AS ended_at FROM
            range({max(20, rows // 500)}) b(i), (VALUES (0), (1)) twice(n) WHERE n = 0 OR b.i % 3 = 0""",
        "limits": f"""
            SELECT 'tenant-' || t.i AS tenant, v.version, l.counts || '/' || l.per || '/' || l.model || '/' AS
            limit_id, l.counts, l.per, l.model, '' AS key_id, l.most * v.factor AS most, {last} + to_hours(v.n)
            AS at FROM range({TENANTS}) t(i), (VALUES ('requests', 'minute', '', 30), ('total_tokens', 'day',
            'm', 100000), ('cost_micros', 'month', '', 900000), ('input_tokens', 'hour', 'chat', 9000),
            ('concurrency', '', '', 4)) l(counts, per, model, most), (VALUES ('v0', 2, 0), ('v1', 1, 1))
            v(version, factor, n)""",
    }


def fill(db: duckdb.DuckDBPyConnection, rows: int = 5_000, days: int = 2, tenants: int = TENANTS) -> None:
    """Make a table for each of lake.TABLES, with exactly its columns, and dt and hour."""
    selects = {"usage": _usage(rows, 0, _start_ms(), days * 24 * HOUR_MS, tenants)} | _others(rows)
    for table in sorted(lake.TABLES, key=lambda t: t.name != "usage"):
        listed = ", ".join(f'CAST("{c.name}" AS {c.duckdb}) AS "{c.name}"' for c in lake.columns(table.schema))
        parts = f'CAST("{table.time}" AS DATE) AS dt, CAST(extract(hour FROM "{table.time}") AS INTEGER) AS hour'
        db.execute(f'CREATE TABLE "{table.name}" AS SELECT {listed}, {parts} FROM ({selects[table.name]})')


def _start_ms() -> int:
    """The beginning of the first day, milliseconds UTC."""
    return int(datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC).timestamp() * 1000)


def write(db: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """The tables of `fill` as Parquet: <folder>/<table>/dt=YYYY-MM-DD/hour=HH/, with the lake's names of files."""
    for table in lake.TABLES:
        columns = ", ".join(f'"{c.name}"' for c in lake.columns(table.schema))
        found = db.execute(f'SELECT DISTINCT dt, hour FROM "{table.name}" ORDER BY ALL').fetchall()
        for number, (day, hour) in enumerate(found):
            to = folder / table.name / f"dt={day}" / f"hour={hour:02d}"
            to.mkdir(parents=True, exist_ok=True)
            path = to / f"part-00000000-0000-0000-0000-000000000000-0-{number}"
            rows = f"SELECT {columns} FROM \"{table.name}\" WHERE dt = DATE '{day}' AND hour = {hour} ORDER BY ALL"
            db.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")


def bulk(folder: Path, rows: int, days: int, tenants: int = 200) -> Iterator[Path]:
    """Write `rows` usage rows over `days`, clustered by tenant as finished hours of the lake are; each file when done.

    One hour is made and sorted; every other hour has its rows at another time, and under other ids.
    """
    db = duckdb.connect(config={"memory_limit": "2GB", "temp_directory": str(folder / "tmp")})
    db.execute("SET enable_progress_bar = false")
    start_ms, hours, first = _start_ms(), days * 24, 0
    listed = ", ".join(f'CAST("{c.name}" AS {c.duckdb}) AS "{c.name}"' for c in lake.columns("Usage"))
    most = -(-rows // hours)
    # What is taken in an hour is also done in it here: the last row must not end in the next partition.
    select = _usage(most, 0, start_ms, HOUR_MS - 5_000, tenants)
    db.execute(f"CREATE TABLE hour AS SELECT {listed} FROM ({select}) ORDER BY tenant, completed_at")
    for number in range(hours):
        count = rows * (number + 1) // hours - first
        day, name = FIRST_DAY + timedelta(days=number // 24), f"part-00000000-0000-0000-0000-{number:012d}-0-0"
        path = folder / "usage" / f"dt={day}" / f"hour={number % 24:02d}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        moved = {
            "request_id": f"'{number:05d}' || request_id[6:]",
            "attempt": f"CASE WHEN attempt = '' THEN '' ELSE '{number:05d}' || attempt[6:] END",
            "received_at": f"received_at + to_hours({number})",
            "completed_at": f"completed_at + to_hours({number})",
        }
        columns = ", ".join(f"{sql} AS {column}" for column, sql in moved.items())
        rows_of = f"SELECT * REPLACE ({columns}) FROM hour LIMIT {count}"
        db.execute(f"COPY ({rows_of}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
        first += count
        yield path


if __name__ == "__main__":
    began = time.monotonic()
    size = sum(path.stat().st_size for path in bulk(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
    print(f"{sys.argv[2]} rows, {size:,} bytes, {time.monotonic() - began:.1f} s")
