"""The progress of a batch as text, for a terminal and for a line of a log. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ingest.cli import quantities
from ingest.cli.batch import ENDED, fault

BAR: Final = 24
SHOWN_FAULTS: Final = 3
COLOURS: Final = {
    "completed": "green",
    "failed": "red",
    "expired": "red",
    "cancelled": "yellow",
    "cancelling": "yellow",
}


def figures(row: dict[str, Any], now_s: float) -> list[str]:
    """What is known of a batch's progress (progress.document), in a fixed order."""
    done = row["completed"] + row["failed"]
    found = [f"{quantities.count(done)}/{quantities.count(row['total'])} lines"]
    if row["failed"]:
        found.append(f"{quantities.count(row['failed'])} failed")
    if row["status"] not in ENDED:
        if row["lines_per_second"]:
            found.append(f"{quantities.count(row['lines_per_second'])} lines/s")
        if row["tokens_per_second"]:
            found.append(f"{quantities.count(row['tokens_per_second'])} tokens/s")
    else:
        found.append(f"{row['input_tokens']:,} + {row['output_tokens']:,} tokens")
    if row["cost_micros"] is not None:
        found.append(f"cost {quantities.money(row['cost_micros'])}")
    if row["status"] not in ENDED and row["estimated_completion_at"]:
        found.append(f"done in about {quantities.span(row['estimated_completion_at'] - now_s)}")
    return found


def status(row: dict[str, Any]) -> str:
    """Its status, and whether it is held back."""
    return f"{row['status']}, paused" if row["paused"] else str(row["status"])


def remarks(row: dict[str, Any]) -> list[str]:
    """Why it waits or failed."""
    if row["waiting"]:
        until = row["waiting"].get("until")
        return [row["waiting"]["message"] + (f" Until {quantities.moment(until)}." if until else "")]
    faults = row["errors"]
    more = [f"and {len(faults) - SHOWN_FAULTS} more faults"] if len(faults) > SHOWN_FAULTS else []
    return [fault(error) for error in faults[:SHOWN_FAULTS]] + more


def line(row: dict[str, Any], now_s: float) -> str:
    """One batch on one line."""
    text = f"{row['id']} {status(row)}: {', '.join(figures(row, now_s))}"
    return "; ".join([text, *remarks(row)])


def block(row: dict[str, Any], name: str, now_s: float) -> RenderableType:
    """One batch on a terminal: what it is, how far it is, and what it waits for."""
    head = Text.assemble((row["id"], "bold"), "  ", name, no_wrap=True, overflow="ellipsis")
    done = row["completed"] + row["failed"]
    table = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(1, row["total"]), completed=done, width=BAR)
    colour = COLOURS.get(row["status"], "cyan")
    table.add_row("", Text(status(row), colour), bar, Text(" · ".join(figures(row, now_s))))
    return Group(head, table, *(Text(f"  {text}", "dim") for text in remarks(row)))
