"""What the demo asks of the lake, over views made here."""

from __future__ import annotations

import duckdb
import pytest

from examples import ledger, report
from examples.tickets import Unmet
from streams import lake

BATCH = "batch_1"


@pytest.fixture
def db():
    """A lake with a run of four lines (two identical, one blocked, one refused), a call, and rows of others."""
    db = duckdb.connect()
    for table in lake.TABLES:
        db.execute(lake.view(table, []))
        db.execute(f'CREATE TABLE rows_{table.name} AS SELECT * FROM "{table.name}"')
        db.execute(f'CREATE OR REPLACE VIEW "{table.name}" AS SELECT * FROM rows_{table.name}')
    line = (("l1", 1, "completed", "miss", 30, 5), ("l2", 2, "completed", "follower", 0, 0))
    line += (("l3", 3, "blocked", "none", 0, 0), ("l4", 4, "refused", "none", 0, 0))
    for request_id, number, status, cache, used_in, used_out in line:
        _insert(db, request_id, BATCH, number, status, cache, used_in, used_out)
    _insert(db, "call", "", 0, "completed", "miss", 7, 3)
    _insert(db, "other", "batch_2", 1, "completed", "miss", 100, 100)
    for request_id, action in (("l3", "block"), ("l1", "mask"), ("other", "mask")):
        db.execute(
            "INSERT INTO rows_audit (request_id, tenant, stage, rule, action) VALUES (?, 'acme', 'request', 'r', ?)",
            [request_id, action],
        )
    return db


def _insert(db, request_id, batch_id, line, status, cache, used_in, used_out):
    db.execute(
        "INSERT INTO rows_usage (request_id, tenant, model, lane, batch_id, line, status, cache, input_tokens, "
        "output_tokens, cost_micros) VALUES (?, 'acme', 'm', ?, ?, ?, ?, ?, ?, ?, ?)",
        [request_id, "batch" if batch_id else "interactive", batch_id, line, status, cache, used_in, used_out, 1],
    )
    db.execute("INSERT INTO rows_responses (request_id, tenant) VALUES (?, 'acme')", [request_id])


def _facts(db):
    result = db.execute(ledger.FACTS.format(mine=ledger.ours(BATCH, ["call"])))
    return dict(zip([c[0] for c in result.description], result.fetchone(), strict=True))


WANTED = ledger.expected(lines=4, repeated=1, others=1, batch_tokens=35)


def test_the_facts_of_a_run_are_those_expected_of_it(db):
    facts = _facts(db)
    assert facts == WANTED
    assert ledger.complete(facts, WANTED)
    ledger.check(facts, WANTED)


@pytest.mark.parametrize("table", ["usage", "responses", "audit"])
def test_what_has_not_arrived_is_waited_for(db, table):
    db.execute(f"DELETE FROM rows_{table} WHERE request_id = 'l3'")
    assert not ledger.complete(_facts(db), WANTED)


def test_a_second_row_for_a_line_is_said(db):
    _insert(db, "l1", BATCH, 1, "completed", "miss", 30, 5)
    with pytest.raises(Unmet, match=r"rows is 6, not 5.*tokens is 70, not 35"):
        ledger.check(_facts(db), WANTED)


def test_more_hits_than_repeats_are_fine_and_fewer_are_not():
    ledger.check({**WANTED, "shared": 2}, WANTED)
    with pytest.raises(Unmet, match="shared is 0, not 1"):
        ledger.check({**WANTED, "shared": 0}, WANTED)


def test_the_table_has_a_row_for_each_tenant_model_lane_status_and_cache(db):
    rows = db.execute(ledger.TABLE.format(mine=ledger.ours(BATCH, ["call"]))).fetchall()
    assert ("acme", "m", "batch", "completed", "follower", 1, 0, 0, 1) in rows
    assert ("acme", "m", "interactive", "completed", "miss", 1, 7, 3, 1) in rows
    assert len(rows) == 5


def test_an_id_cannot_end_its_literal():
    assert ledger.ours("b", ["a' OR 'x"]).count("''") == 2


def test_money_is_shown_to_the_millionth():
    assert [report.money(m) for m in (0, 357, 2_500_000)] == ["0.000000", "0.000357", "2.500000"]
