"""The report: its numbers are those of the rows, and whatever is shown of them is escaped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from streams import charts, lake_sql, report
from tests import lake_rows

FIRST = datetime(2026, 11, 2, tzinfo=UTC)


@pytest.fixture(scope="module")
def db():
    made = duckdb.connect()
    lake_rows.fill(made, rows=1_000)
    made.execute("UPDATE usage SET tenant = '<b>&\"x' WHERE tenant = 'tenant-7'")
    for path in lake_sql.VIEWS.glob("*.sql"):
        made.execute(f'CREATE VIEW "{path.stem}" AS {path.read_text()}')
    return made


def test_the_page_holds_the_sums_of_the_rows(db):
    page = report.render(report.Data(db, FIRST, FIRST + timedelta(days=2)))
    ((tokens, micros),) = db.execute("SELECT sum(input_tokens + output_tokens), sum(cost_micros) FROM usage").fetchall()
    assert f"<dd>{charts.number(tokens)}</dd>" in page and f"<dd>{micros / 1e6:,.2f}</dd>" in page
    assert "<dd>1,000</dd>" in page and "{{" not in page


def test_rows_of_other_days_are_not_in_it(db):
    page = report.render(report.Data(db, FIRST + timedelta(days=9), FIRST + timedelta(days=11)))
    assert "<dd>0</dd>" in page and "No tokens in these days." in page


def test_a_name_is_never_markup(db):
    page = report.render(report.Data(db, FIRST, FIRST + timedelta(days=2)), tenant="<script>")
    assert "<b>&" not in page and "<script>" not in page and "&lt;b&gt;&amp;" in page


def test_the_page_asks_for_nothing_outside(db):
    page = report.render(report.Data(db, FIRST, FIRST + timedelta(days=2)))
    assert "http" not in page and "src=" not in page and "@import" not in page


def test_small_series_become_one():
    moments = [FIRST, FIRST + timedelta(hours=1)]
    rows = [(FIRST.replace(tzinfo=None), f"t{n}", n) for n in range(1, 10)]
    found = report.series(rows, moments)
    assert list(found) == ["t9", "t8", "t7", "t6", "t5", "t4", charts.OTHERS]
    assert found[charts.OTHERS] == [6.0, 0.0] and found["t9"] == [9.0, 0.0]


@pytest.mark.parametrize(
    ("most", "marks"),
    [
        (0, [0, 1]),
        (0.4, [0, 0.1, 0.2, 0.3, 0.4]),
        (7, [0, 2, 4, 6, 8]),
        (12, [0, 2.5, 5, 7.5, 10, 12.5]),
        (52_000, [0, 20_000, 40_000, 60_000]),
    ],
)
def test_marks_are_round_and_reach_the_top(most, marks):
    assert charts.ticks(most) == pytest.approx(marks)


@pytest.mark.parametrize(
    ("value", "shown"), [(0, "0"), (950, "950"), (1200, "1.2 k"), (3.4e6, "3.4 M"), (0.25, "0.25")]
)
def test_numbers_are_short(value, shown):
    assert charts.number(value) == shown
