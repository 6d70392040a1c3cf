"""The progress of a batch as text, for a terminal and for a line of a log. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.padding import Padding
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


def counts(row: dict[str, Any]) -> list[str]:
    """How far a batch (progress.document) is."""
    done = row["completed"] + row["failed"]
    failed = [f"{quantities.count(row['failed'])} failed"] if row["failed"] else []
    return [f"{quantities.count(done)}/{quantities.count(row['total'])} lines", *failed]


def speeds(row: dict[str, Any], now_s: float) -> list[str]:
    """How fast it goes, or what it took; what it costs, and when it will be done. What is not known is left out."""
    found: list[str] = []
    if row["status"] in ENDED:
        found.append(f"{row['input_tokens']:,} + {row['output_tokens']:,} tokens")
    else:
        for name, what in (("lines_per_second", "lines/s"), ("tokens_per_second", "tokens/s")):
            if row[name]:
                found.append(f"{quantities.count(row[name])} {what}")
    if row["cost_micros"] is not None:
        found.append(f"cost {quantities.money(row['cost_micros'])}")
    left_s = (row["estimated_completion_at"] or 0) - now_s
    if row["status"] not in ENDED and left_s > 0:
        found.append(f"done in about {quantities.span(left_s)}")
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
    text = f"{row['id']} {status(row)}: {', '.join(counts(row) + speeds(row, now_s))}"
    return "; ".join([text, *remarks(row)])


def lane(row: dict[str, Any]) -> str:
    """One lane on one line."""
    rate = f"{quantities.count(row['requests_per_second'])} requests/s"
    tokens = f"{quantities.count(row['tokens_per_second'])} tokens/s"
    return f"{row['lane']}: {rate}, {tokens}, cost {quantities.money(row['cost_micros'])}"


def footer(lanes: list[dict[str, Any]]) -> RenderableType:
    """What happens in each lane, below the batches."""
    if not lanes:
        return Text("")
    seconds = quantities.span(lanes[0]["seconds"])
    return Group(Text(f"\nlanes, over the last {seconds}", "dim"), *(Text(f"  {lane(row)}", "dim") for row in lanes))


def block(row: dict[str, Any], name: str, now_s: float) -> RenderableType:
    """One batch on a terminal: what it is, how far it is, and what it waits for."""
    head = Text.assemble((row["id"], "bold"), "  ", name, no_wrap=True, overflow="ellipsis")
    done = row["completed"] + row["failed"]
    table = Table.grid(padding=(0, 2, 0, 0))
    bar = ProgressBar(total=max(1, row["total"]), completed=done, width=BAR)
    table.add_row(Text(status(row), COLOURS.get(row["status"], "cyan")), bar, Text(" · ".join(counts(row))))
    below = [Text(" · ".join(speeds(row, now_s))), *(Text(text, "dim") for text in remarks(row))]
    return Group(head, Padding(Group(table, *below), (0, 0, 0, 2)))
