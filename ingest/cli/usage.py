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
    lanes: Annotated[bool, typer.Option("--lanes", help="Also by lane.")] = False,
    batch_id: Annotated[str, typer.Option("--batch", metavar="BATCH", help="What a batch used until now.")] = "",
    json: Json = False,
) -> None:
    """Requests, tokens and cost of the last minutes; with an admin's key those of every tenant.

    For bills, ask the lake: make sql.
    """
    client = session(ctx).client()
    if batch_id:
        found = client.get("/usage", batch_id=batch_id)
    else:
        found = client.get("/usage", minutes=minutes, lanes="true" if lanes else None)
    terminal.show(ctx, found, lambda: table(found))


def table(found: dict[str, Any]) -> Table:
    """The answer, one tenant a row, its lanes below it; their sum at the end, where there are more."""
    shown = Table("tenant", box=None, pad_edge=False)
    for name in ("requests", "input tokens", "output tokens", "cost"):
        shown.add_column(name, justify="right")
    for tenant in found["data"]:
        _add(shown, tenant["tenant"], tenant)
        for lane, sums in tenant.get("lanes", {}).items():
            _add(shown, f"  {lane}", sums)
    if len(found["data"]) > 1:
        _add(shown, "all", found["total"])
    return shown


def _add(table: Table, name: str, sums: dict[str, Any]) -> None:
    counts = (f"{sums[of]:,}" for of in ("requests", "input_tokens", "output_tokens"))
    table.add_row(name, *counts, quantities.money(sums["cost_micros"]))
