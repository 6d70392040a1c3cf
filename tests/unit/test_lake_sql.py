"""`make sql`: what it prints, and the queries we ship, over files made here."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from streams import lake, lake_sql

VIEWS = Path(lake_sql.__file__).parent / "views"
UUID = "1df5110e-cee4-4c74-97c3-aa3fea5fa78f"


@pytest.fixture
def environment(tmp_path):
    (tmp_path / "s3" / "millrace").mkdir(parents=True)
    names = ("SERVICE", "KAFKA", "REGISTRY", "S3", "S3_ACCESS_KEY", "S3_SECRET_KEY", "REDIS")
    return {**{f"MILLRACE_{n}": "x" for n in names}, "MILLRACE_HOME": str(tmp_path), "MILLRACE_BUCKET": "millrace"}


def _write(environment, table, number, select):
    """A file of the lake with the columns of `select`, the others empty."""
    folder = Path(environment["MILLRACE_HOME"]) / "s3" / "millrace" / table.name / "dt=2026-11-02" / "hour=09"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{UUID}-0-{number}"
    db = duckdb.connect()
    db.execute(lake.view(table, []))
    columns = ", ".join(f'"{c.name}"' for c in lake.columns(table.schema))
    rows = f'SELECT * FROM "{table.name}" UNION ALL BY NAME {select}'
    db.execute(f"COPY (SELECT {columns} FROM ({rows})) TO '{path}' (FORMAT parquet)")
    return path


def _run(environment, capsys, query):
    status = lake_sql.main({**environment, "Q": query})
    captured = capsys.readouterr()
    return status, list(csv.reader(io.StringIO(captured.out))), captured.err


def test_rows_of_all_files_and_none_of_an_unfinished_one(environment, capsys):
    first = _write(environment, lake.TABLES[0], 0, "SELECT 'a' AS request_id, 3::BIGINT AS input_tokens")
    _write(environment, lake.TABLES[0], 1, "SELECT 'b' AS request_id, 4::BIGINT AS input_tokens")
    first.with_name(f"{first.name}-{UUID}").write_bytes(b"half a file")
    query = "SELECT request_id, input_tokens, dt, hour FROM usage ORDER BY 1"
    assert _run(environment, capsys, query) == (
        0,
        [["request_id", "input_tokens", "dt", "hour"], ["a", "3", "2026-11-02", "9"], ["b", "4", "2026-11-02", "9"]],
        "",
    )


def test_quotes_and_a_long_query_pass_unchanged(environment, capsys):
    long = "x" * 100_000
    status, rows, _ = _run(environment, capsys, f"SELECT 'it''s $HOME \"{long}\"' AS t")
    assert status == 0
    assert rows == [["t"], [f'it\'s $HOME "{long}"']]


def test_a_carriage_return_in_a_cell_ends_no_line(environment, capsys):
    assert lake_sql.main({**environment, "Q": "SELECT 'a' || chr(13) || 'b' AS t, 1 AS n"}) == 0
    # As a pipe that is read as text has it.
    text = io.TextIOWrapper(io.BytesIO(capsys.readouterr().out.encode()), newline=None).read()
    assert list(csv.reader(io.StringIO(text))) == [["t", "n"], ["a\nb", "1"]]


def test_a_mistake_is_one_line_and_status_1(environment, capsys):
    status, rows, error = _run(environment, capsys, "SELECT nothing FROM nowhere")
    assert (status, rows) == (1, [])
    assert error.count("\n") == 1 and "nowhere" in error


def test_no_query_says_how_to_ask(environment, capsys):
    status, _, error = _run(environment, capsys, "  ")
    assert status == 1 and "Q=" in error


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (True, "true"),
        (datetime(2026, 11, 2, 9, 5, 0, 7000), "2026-11-02 09:05:00.007"),
        ("é".encode(), "é"),
        ({"a": [1]}, '{"a": [1]}'),
        (Decimal("1.500000"), "1.500000"),
    ],
)
def test_cells(value, shown):
    assert lake_sql.text(value) == shown


def _usage(tenant, model, tokens, cost, month="2026-11-01"):
    return (
        f"SELECT '{tenant}' AS tenant, '{model}' AS model, 'p' AS pool, 'miss' AS cache, "
        f"{tokens}::BIGINT AS input_tokens, 1::BIGINT AS output_tokens, {cost}::BIGINT AS cost_micros, "
        f"TIMESTAMP '{month} 10:00:00' AS completed_at"
    )


def test_the_invoice_adds_up_to_the_micro_unit(environment, capsys):
    for number, row in enumerate(
        [_usage("acme", "m", 9, 1), _usage("acme", "m", 19, 2), _usage("globex", "m", 4, 10**13)]
    ):
        _write(environment, lake.TABLES[0], number, row)
    _, rows, error = _run(environment, capsys, (VIEWS / "invoice.sql").read_text())
    assert error == ""
    assert rows == [
        ["tenant", "model", "tokens", "cost", "day", "kind"],
        ["acme", "m", "30", "0.000003", "2026-11-02", "usage"],
        ["globex", "m", "5", "10000000.000000", "2026-11-02", "usage"],
    ]


def test_reconciliation_adds_waste_to_what_was_billed(environment, capsys):
    _write(environment, lake.TABLES[0], 0, _usage("acme", "m", 9, 1))
    waste = "SELECT 'acme' AS tenant, 'p' AS pool, 5::BIGINT AS input_tokens, 2::BIGINT AS output_tokens"
    _write(environment, lake.TABLES[3], 0, waste)
    _, rows, _ = _run(environment, capsys, (VIEWS / "reconciliation.sql").read_text())
    assert rows[1:] == [["acme", "p", "10", "7", "17", "2026-11-02"]]


@pytest.mark.parametrize("path", sorted(VIEWS.glob("*.sql")), ids=lambda p: p.stem)
def test_every_shipped_query_runs_on_an_empty_lake(environment, capsys, path):
    status, rows, error = _run(environment, capsys, path.read_text())
    assert (status, len(rows), error) == (0, 1, "")
