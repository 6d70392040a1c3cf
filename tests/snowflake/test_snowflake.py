"""Every view in Snowflake's dialect, run by fakesnow, and in DuckDB: the same answer over the same rows.

fakesnow translates the dialect and runs it in DuckDB. So this shows that the statements are Snowflake's as far as its
parser knows, that names and types fit the tables, and that the translation from our SQL and back changes no result. It
says nothing of Snowflake's own arithmetic, of external tables, stages, policies, pipes and tasks, which it has not.
"""

from __future__ import annotations

import json
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from infra import declared
from schemas import catalogue
from streams import lake
from tests import lake_rows
from tests.athena.tables import GLUE, bare
from tests.athena.test_athena import plain
from tests.snowflake import install

pytestmark = pytest.mark.snowflake
VIEWS = sorted(path.stem for path in declared.VIEWS.glob("*.sql"))
# As infra/terraform/modules/snowflake has them; tests/terraform holds its columns against the .avsc.
TYPES = {"string": "VARCHAR", "binary": "BINARY", "timestamp": "TIMESTAMP_NTZ", "map<string,binary>": "VARIANT"}


def columns(table: lake.Table) -> list[tuple[str, str]]:
    """(name, type) of each column in Snowflake; a VARIANT is left out, which no view reads."""
    kinds = [(f["name"], GLUE[bare(f["type"])]) for f in catalogue.raw(table.schema)["fields"]]
    known = [(name, TYPES.get(kind, kind.upper())) for name, kind in kinds]
    return [*((n, k) for n, k in known if k != "VARIANT"), ("dt", "DATE"), ("hour", "INTEGER")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with made-up rows of every table."""
    folder = tmp_path_factory.mktemp("lake")
    db = duckdb.connect()
    lake_rows.fill(db, rows=3_000)
    lake_rows.write(db, folder)
    return folder


@pytest.fixture(scope="module")
def theirs(rows: Path) -> dict[str, Any]:
    """What the double answers, by view."""
    tables = {t.name: {"columns": columns(t), "rows": str(rows / t.name / "*" / "*" / "part-*")} for t in lake.TABLES}
    queries = {view: declared.query((declared.VIEWS / f"{view}.sql").read_text(), "snowflake")["sql"] for view in VIEWS}
    broken = {"broken": "SELECT nothing FROM usage"}
    asked = json.dumps({"tables": tables, "queries": queries | broken})
    program = Path(__file__).with_name("double.py")
    done = subprocess.run([install.PYTHON, program], input=asked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def duck(rows: Path) -> duckdb.DuckDBPyConnection:
    """The same files as `make sql` sees them."""
    db = duckdb.connect()
    for table in lake.TABLES:
        db.execute(lake.view(table, sorted(map(str, (rows / table.name).glob("*/*/part-*")))))
    return db


def number(value: Any) -> Any:
    """Whole numbers as such: the double counts in decimals where DuckDB counts in integers."""
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return int(value)
    return plain(value)


@pytest.mark.parametrize("view", VIEWS)
def test_a_view_gives_the_same_in_both_dialects(
    theirs: dict[str, Any], duck: duckdb.DuckDBPyConnection, view: str
) -> None:
    found = duck.execute((declared.VIEWS / f"{view}.sql").read_text())
    names = [column[0] for column in found.description or ()]
    ours = sorted(([number(v) for v in row] for row in found.fetchall()), key=repr)
    assert "error" not in theirs[view], theirs[view]
    assert [name.lower() for name in theirs[view]["columns"]] == names
    assert len(ours) > 3
    assert sorted(theirs[view]["rows"], key=repr) == ours


def test_what_is_wrong_is_said(theirs: dict[str, Any]) -> None:
    assert "nothing" in theirs["broken"]["error"].lower()
