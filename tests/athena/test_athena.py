"""Every view on the same files in Trino, which is Athena's engine, and in DuckDB: the same answer."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from infra import declared
from schemas.addresses import Addresses
from streams import lake, lake_sql
from tests import lake_rows
from tests.athena import tables
from tests.athena.engine import Refused, Trino
from tests.integration.parts import Parts, free_ports

pytestmark = pytest.mark.athena
VIEWS = sorted(path.stem for path in declared.VIEWS.glob("*.sql"))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A local S3 with made-up rows of every table in its bucket."""
    held = Parts(tmp_path_factory.mktemp("stack"))
    addresses = Addresses.of(held.environment("test"))
    bucket = addresses.home / "s3" / addresses.bucket
    bucket.mkdir(parents=True)
    db = duckdb.connect()
    lake_rows.fill(db, rows=3_000)
    lake_rows.write(db, bucket)
    _move_late(bucket)
    _make_older(db, bucket)
    held.start("s3")
    yield held
    held.stop_all()


def _move_late(bucket: Path) -> None:
    """Some rows came late: they lie in hour 24 of their day."""
    day = bucket / "usage" / f"dt={lake_rows.FIRST_DAY}"
    (day / "hour=05").rename(day / "hour=24")


def _make_older(db: duckdb.DuckDBPyConnection, bucket: Path) -> None:
    """One file is of a time before the last columns of its schema: it is never rewritten."""
    (path,) = (bucket / "usage" / f"dt={lake_rows.FIRST_DAY}" / "hour=07").iterdir()
    old = path.with_name("old")
    db.execute(
        f"COPY (SELECT * EXCLUDE (cohort, route_step) FROM read_parquet('{path}', hive_partitioning = false)) "
        f"TO '{old}' (FORMAT parquet)"
    )
    old.rename(path)


@pytest.fixture(scope="module")
def trino(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trino]:
    """Trino with the tables of the lake."""
    environment = parts.environment("test")
    with Trino(tmp_path_factory.mktemp("trino"), free_ports(1)[0], environment) as server:
        server.ask("CREATE SCHEMA millrace")
        for table in lake.TABLES:
            server.ask(tables.create(table, environment["MILLRACE_BUCKET"]))
        yield server


@pytest.fixture(scope="module")
def duck(parts: Parts) -> duckdb.DuckDBPyConnection:
    """The lake as `make sql` sees it."""
    return lake_sql.connect(Addresses.of(parts.environment("sql")))


def plain(value: Any) -> Any:
    """A value of either engine as JSON has it; of floating points the digits that both can vouch for."""
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime():
            return value.isoformat(" ", "milliseconds")
        case date():
            return value.isoformat()
        case float():
            return float(f"{value:.12g}")
        case bytes():
            return base64.b64encode(value).decode()
        case _:
            return value


def ask(duck: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """DuckDB's answer, as Trino would give it."""
    found = duck.execute(sql)
    names = [column[0] for column in found.description or ()]
    return names, [tuple(plain(value) for value in row) for row in found.fetchall()]


def by_value(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted((tuple(plain(v) for v in row) for row in rows), key=repr)


@pytest.mark.parametrize("table", lake.TABLES, ids=lambda t: t.name)
def test_both_engines_see_the_same_rows(trino: Trino, duck: duckdb.DuckDBPyConnection, table: lake.Table) -> None:
    names = [f'"{name}"' for name in [*(c.name for c in lake.columns(table.schema)), "dt", "hour"]]
    sql = f'SELECT {", ".join(names)} FROM "{table.name}"'
    theirs, ours = trino.ask(sql), ask(duck, sql)
    assert theirs[0] == ours[0]
    assert len(ours[1]) > 3
    assert by_value(theirs[1]) == by_value(ours[1])


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_gives_the_same_in_both_engines(trino: Trino, duck: duckdb.DuckDBPyConnection, view: str) -> None:
    text = (declared.VIEWS / f"{view}.sql").read_text()
    theirs, ours = trino.ask(declared.query(text, "athena")["sql"]), ask(duck, text)
    assert theirs[0] == ours[0]
    assert len(ours[1]) > 3
    assert by_value(theirs[1]) == by_value(ours[1])


def test_late_rows_are_in_their_day_and_old_files_have_the_new_columns(trino: Trino) -> None:
    day = lake_rows.FIRST_DAY
    ((late,),) = trino.ask(f"SELECT count(*) FROM usage WHERE dt = DATE '{day}' AND hour = 24")[1]
    ((old,),) = trino.ask(f"SELECT count(*) FROM usage WHERE dt = DATE '{day}' AND cohort IS NULL")[1]
    assert late > 10 and old > 10


def test_a_day_reads_its_own_files_only(trino: Trino) -> None:
    """The plan of a query for one day names that day's partitions alone."""
    day = lake_rows.FIRST_DAY
    ((plan,),) = trino.ask(
        f"EXPLAIN (TYPE IO, FORMAT JSON) SELECT sum(cost_micros) FROM usage WHERE dt = DATE '{day}'"
    )[1]
    assert f'"value" : "{day}"' in plan and "2026-11-03" not in plan


def test_what_is_wrong_is_said(trino: Trino) -> None:
    with pytest.raises(Refused, match="nowhere"):
        trino.ask("SELECT 1 FROM nowhere")
