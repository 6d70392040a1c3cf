"""millrace usage: what was used in the last minutes, as the live application counts it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from ingest.cli import quantities, terminal
from ingest.cli.session import session
from ingest.cli.terminal import Json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(usage)


def usage(
    ctx: typer.Context,
    minutes: Annotated[int, typer.Option("--minutes", "-n", min=1, max=1440, help="How far back.")] = 60,
    json: Json = False,
) -> None:
    """Requests, tokens and cost of the last minutes; with an admin's key those of every tenant.

    For bills, ask the lake: make sql.
    """
    found = session(ctx).client().get("/usage", minutes=minutes)
    terminal.show(ctx, found, lambda: table(found))


def table(found: dict[str, Any]) -> Table:
    """The answer, one tenant a row; their sum below, where there are more."""
    shown = Table("tenant", box=None, pad_edge=False)
    for name in ("requests", "input tokens", "output tokens", "cost"):
        shown.add_column(name, justify="right")
    rows = [*found["data"], *([{"tenant": "all", **found["total"]}] if len(found["data"]) > 1 else [])]
    for row in rows:
        sums = (f"{row[name]:,}" for name in ("requests", "input_tokens", "output_tokens"))
        shown.add_row(row["tenant"], *sums, quantities.money(row["cost_micros"]))
    return shown
