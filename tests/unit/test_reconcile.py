"""Books that agree, and each way in which they may not."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from streams import reconcile

DAY = date(2026, 11, 2)
OTHER = date(2026, 11, 1)


def row(number, attempt="", tokens=(0, 0), micros=0, day=DAY):
    return ("acme", f"r{number}", attempt, *tokens, micros, day)


def fill(**extra):
    """Ten requests that ran, two that did not, an attempt that was waste; `extra` is added to books, or taken away."""
    db = duckdb.connect()
    reconcile.books(db)
    usage = [row(n, f"a{n}", (10 + n, n), n) for n in range(1, 11)] + [row(n) for n in (11, 12)]
    waste = [row(1, "a1.w", (5, 5))]
    spent = [row(n, f"a{n}", (10 + n, n)) for n in range(1, 11)] + waste
    entered = {
        "topic_usage": usage,
        "topic_waste": waste,
        "topic_credits": [("acme", "e1", "refund", 0, 0, 700, DAY)],
        # A worker that was not told of its success writes a completion twice; a caller repeats his request.
        "completions": [*spent, spent[0]],
        "requests": [*(row(n) for n in range(1, 12)), row(1)],
        "cancellations": [row(12)],
        "files_usage": usage,
        "files_waste": waste,
        "files_credits": [("acme", "e1", "refund", 0, 0, 700, DAY)],
    }
    for book, rows in entered.items():
        if book.startswith("files_"):
            db.execute(f"CREATE TABLE {book} AS SELECT * FROM topic_usage WHERE false")
        gone = extra.get(f"no_{book}", [])
        reconcile.take(db, book, [r for r in rows if r not in gone] + extra.get(book, []))
    return db


def differences(db):
    return {e.what: e.differences for e in reconcile.equations(db, DAY) if e.differences}


def test_books_that_agree_have_no_difference_and_say_their_sums():
    db = fill()
    assert differences(db) == {}
    billed = sum(10 + 2 * n for n in range(1, 11))
    assert reconcile.totals(db, DAY) == [
        f"engines spent {billed + 10} tokens; {billed} billed + 10 waste = {billed + 10}",
        "12 rows of usage in the topic, 12 in Parquet; 55 and 55 micro-units",
        "1 credits and refunds of 700 micro-units",
    ]


ENGINE, JOURNAL = "engine tokens = billed + waste", "requests of the journal = rows of usage"
THIRD = row(3, "a3", (13, 3), 3)


@pytest.mark.parametrize(
    ("planted", "what", "found"),
    [
        (
            {"completions": [row(9, "lost", (4, 4))]},
            ENGINE,
            ("attempt lost", "acme", "the engine spent 8 tokens, in no row"),
        ),
        (
            {"topic_waste": [row(9, "free", (4, 4))], "files_waste": [row(9, "free", (4, 4))]},
            ENGINE,
            ("attempt free", "acme", "a row of waste has 8 tokens, no engine spent them"),
        ),
        (
            {"no_completions": [row(3, "a3", (13, 3))], "completions": [row(3, "a3", (13, 4))]},
            ENGINE,
            ("attempt a3", "acme", "the engine spent 13+4, usage has 13+3"),
        ),
        ({"requests": [row(99)]}, JOURNAL, ("request r99", "acme", "it has no row in usage")),
        ({"no_cancellations": [row(12)]}, JOURNAL, ("request r12", "acme", "its row in usage has no request")),
        (
            {"no_files_usage": [THIRD]},
            "topic usage = Parquet",
            ("usage r3", "acme", "1 in the topic, 0 in Parquet: tokens 13+3, micros 3"),
        ),
        (
            {"files_usage": [THIRD]},
            "topic usage = Parquet",
            ("usage r3", "acme", "1 in the topic, 2 in Parquet: tokens 13+3, micros 3"),
        ),
        (
            {"no_files_credits": [("acme", "e1", "refund", 0, 0, 700, DAY)]},
            "topic credits = Parquet",
            ("credits e1", "acme", "1 in the topic, 0 in Parquet: tokens 0+0, micros 700"),
        ),
    ],
)
def test_a_planted_difference_is_found_alone(planted, what, found):
    assert differences(fill(**planted)) == {what: [found]}


def test_a_row_that_is_there_twice_breaks_every_equation_it_is_in():
    found = differences(fill(topic_usage=[THIRD]))
    assert found.keys() == {ENGINE, JOURNAL, "topic usage = Parquet"}
    assert found[JOURNAL] == [("request r3", "acme", "it has 2 rows in usage")]


def test_other_days_are_other_days_business():
    planted = {"completions": [row(9, "lost", (4, 4), day=OTHER)], "requests": [row(98, day=OTHER)]}
    assert differences(fill(**planted, topic_usage=[row(97, day=OTHER)])) == {}


def test_a_request_of_the_day_before_has_its_row_today():
    usage = row(50, "a50", (1, 1))
    extra = {"requests": [row(50, day=OTHER)], "completions": [row(50, "a50", (1, 1), day=OTHER)]}
    assert differences(fill(**extra, topic_usage=[usage], files_usage=[usage])) == {}
