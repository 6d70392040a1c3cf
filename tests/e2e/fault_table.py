"""Writes the figures of a run of the fault matrix into docs/faults.md: `python -m tests.e2e.fault_table FOLDER`.

FOLDER is what MILLRACE_FAULTS named while tests/e2e/test_3_faults.py ran.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- figures -->\n", "<!-- end of figures -->"
HEAD = ("fault", "in flight: batch, calls, Avro", "asked", "lost", "doubled", "overspent", "run twice", "back after")


def row(figures: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    held = f" for {figures['held_s']:.0f} s" if figures["held_s"] else ""
    flying = ", ".join(str(figures["in_flight"].get(door, 0)) for door in ("batch", "http", "intake"))
    numbers = (figures[name] for name in ("asked", "lost", "doubled", "overspent", "wasted_attempts"))
    victims = " and ".join(figures["victims"])
    return f"{figures['signal']} {victims}{held}", flying, *map(str, numbers), f"{figures['recovery_s']:.1f} s"


def table(cells: list[dict[str, Any]]) -> str:
    """Markdown of all cells, kills first."""
    ordered = sorted(cells, key=lambda cell: (cell["signal"], len(cell["victims"]), cell["cell"]))
    lines = [HEAD, ("---",) * len(HEAD), *map(row, ordered)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def replaced(document: str, figures: str) -> str:
    """The document with the figures between its two marks."""
    before, _, rest = document.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def main() -> None:
    """Read the folder, write the document."""
    cells = [json.loads(path.read_text()) for path in Path(sys.argv[1]).glob("*.json")]
    machine = f"{len(cells)} cells, on a machine of {os.cpu_count()} cores.\n\n"
    DOCUMENT.write_text(replaced(DOCUMENT.read_text(), machine + table(cells)))


if __name__ == "__main__":
    main()
