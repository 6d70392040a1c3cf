"""The table of faults in the docs."""

from tests.e2e.fault_table import BEGIN, DOCUMENT, END, replaced, table

CELL = {
    "cell": "stop-relay",
    "signal": "SIGSTOP",
    "victims": ["relay"],
    "held_s": 12.0,
    "in_flight": {"batch": 7, "http": 1},
    "asked": 9,
    "lost": 0,
    "doubled": 0,
    "overspent": 0,
    "wasted_attempts": 2,
    "recovery_s": 1.25,
}


def test_kills_stand_before_hangs():
    lines = table([CELL, {**CELL, "cell": "kill-relay", "signal": "SIGKILL", "held_s": 0.0}]).splitlines()
    assert lines[2] == "| SIGKILL relay | 7, 1, 0 | 9 | 0 | 0 | 0 | 2 | 1.2 s |"
    assert lines[3].startswith("| SIGSTOP relay for 12 s |")


def test_only_the_figures_are_replaced():
    once = replaced(f"before\n{BEGIN}old{END}\nafter", "new\n")
    assert once == f"before\n{BEGIN}\nnew\n\n{END}\nafter" and replaced(once, "new\n") == once


def test_the_document_shows_a_run_in_which_nothing_was_lost():
    figures = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in figures.splitlines() if line.startswith("| SIG")
    ]
    assert len(rows) >= 15 and all(row[3:6] == ["0", "0", "0"] for row in rows)
