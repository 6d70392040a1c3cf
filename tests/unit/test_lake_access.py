"""What a tenant's own analyst may ask, and sees."""

from __future__ import annotations

import pytest

from streams import lake, lake_access, lake_sql
from streams.lake_access import Refused, check
from tests.unit.test_lake_sql import _run, _usage, _write, environment  # noqa: F401 (a fixture)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM usage",
        "FROM invoice SELECT sum(cost)",
        "WITH mine AS (SELECT 1 AS a) SELECT * FROM mine JOIN usage ON true",
        "SELECT day, sum(tokens) OVER (ORDER BY day) FROM invoice WHERE model IN (SELECT model FROM usage)",
        "SELECT * FROM range(3)",
    ],
)
def test_questions_to_the_views_are_run(query):
    check(query)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_parquet('/lake/usage/dt=*/*/*')",
        "SELECT * FROM '/lake/x.parquet'",
        "SELECT * FROM (SELECT * FROM read_csv('/etc/passwd'))",
        "SELECT a.* FROM usage a, read_text('/etc/passwd') b",
        "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))",
        "SELECT * FROM usage WHERE tenant IN (SELECT file FROM glob('*'))",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM query_table('x.parquet')",
        "SELECT getenv('HOME')",
        "SELECT current_setting('secret_directory')",
        "SELECT * FROM duckdb_secrets()",
        "SELECT * FROM information_schema.tables",
        'SELECT * FROM (WITH "x.parquet" AS (SELECT 1) SELECT 1), "x.parquet"',
        "COPY usage TO '/tmp/x'",
        "CREATE TABLE x AS SELECT 1",
        "INSTALL httpfs",
        "SET threads = 9",
        "SELECT 1; SELECT 2",
        "ATTACH 'x.db'",
        "PRAGMA database_list",
        "EXPLAIN ANALYZE SELECT * FROM read_csv('/etc/passwd')",
    ],
)
def test_whatever_reads_beside_them_is_refused(query):
    with pytest.raises(Refused):
        check(query)


def test_a_tenant_sees_its_own_rows_in_every_table_and_view(environment, capsys):  # noqa: F811
    for number, tenant in enumerate(("acme", "globex")):
        _write(environment, lake.TABLES[0], number, _usage(tenant, "m", 9, 1))
    own = {**environment, "T": "acme"}
    for name in ("usage", "invoice", "savings"):
        _, rows, error = _run(own, capsys, f"SELECT DISTINCT tenant FROM {name}")
        assert (rows, error) == ([["tenant"], ["acme"]], "")
    _, everyone, _ = _run(environment, capsys, "SELECT DISTINCT tenant FROM invoice ORDER BY 1")
    assert everyone == [["tenant"], ["acme"], ["globex"]]


def test_what_is_refused_is_said_in_one_line(environment, capsys):  # noqa: F811
    status, rows, error = _run({**environment, "T": "acme"}, capsys, "SELECT * FROM read_text('/etc/passwd')")
    assert (status, rows) == (1, []) and error == "make sql: read_text is not run for a tenant\n"


def test_every_table_has_a_tenant_by_which_it_is_cut():
    for table in lake.TABLES:
        assert "tenant" in {c.name for c in lake.columns(table.schema)}
    assert {path.stem for path in lake_sql.VIEWS.glob("*.sql")} <= lake_access.TABLES
