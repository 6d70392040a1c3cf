"""The report opened in a real browser: Chromium, which comes as a package and needs neither root nor a display."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from streams import lake_sql, report
from tests import lake_rows
from tests.e2e import nodejs

BROWSER = Path(__file__).parents[1] / "browser"


def database(rows: int) -> duckdb.DuckDBPyConnection:
    """Tables and views of the lake with made-up rows."""
    db = duckdb.connect()
    lake_rows.fill(db, rows=max(1, rows), days=2)
    for table in lake_sql.lake.TABLES if not rows else ():
        db.execute(f'DELETE FROM "{table.name}"')
    for path in lake_sql.VIEWS.glob("*.sql"):
        db.execute(f'CREATE VIEW "{path.stem}" AS {path.read_text()}')
    return db


def look(tmp_path: Path, rows: int, days: int) -> dict[str, object]:
    """What the browser saw of the report of so many days."""
    first = datetime(lake_rows.FIRST_DAY.year, lake_rows.FIRST_DAY.month, lake_rows.FIRST_DAY.day, tzinfo=UTC)
    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(report.render(report.Data(database(rows), first, first + timedelta(days=days))))
    command = [nodejs.NODE, BROWSER / "look.mjs", nodejs.install(BROWSER), page, picture]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and picture.stat().st_size > 20_000
    found: dict[str, object] = json.loads(done.stdout)
    assert str(found["version"]).startswith("HeadlessChrome/")
    return found


@pytest.mark.parametrize("days", [2, 30], ids=["by the hour", "by the day"])
def test_the_report_is_right_in_every_window(tmp_path: Path, days: int) -> None:
    found = look(tmp_path, 3_000, days)
    assert found["faults"] == []
    tiles = found["tiles"]
    assert isinstance(tiles, dict) and tiles["Requests"] == "3,000"
    assert found["charts"] == 7 and int(str(found["marks"])) > 40
    assert found["headings"] == [
        "Tokens by tenant", "Tokens by model", "Cost by tenant, less credits and refunds",
        "Savings against the full price",
        "Latency by lane", "Requests in which moderation found something", "Engines", "Quota", "Batches",
        "Fallbacks, cohorts and shadows",
    ]  # fmt: skip


def test_the_report_of_an_empty_lake_says_so(tmp_path: Path) -> None:
    found = look(tmp_path, 0, 2)
    assert found["faults"] == [] and found["charts"] == 1
