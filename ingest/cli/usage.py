"""millrace usage: what was used in the last minutes, as the live application counts it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.table import Table

from ingest.cli import quantities, terminal
from ingest.cli.session import session
from ingest.cli.terminal import Json

WIDTH: Final = 30
BLOCK: Final = "█"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(usage)


def usage(
    ctx: typer.Context,
    minutes: Annotated[int, typer.Option("--minutes", "-n", min=1, max=1440, help="How far back.")] = 60,
    lanes: Annotated[bool, typer.Option("--lanes", help="Also by lane.")] = False,
    batch_id: Annotated[str, typer.Option("--batch", metavar="BATCH", help="What a batch used until now.")] = "",
    chart: Annotated[bool, typer.Option("--chart", help="Bars of tokens beside the numbers.")] = False,
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
    terminal.show(ctx, found, lambda: table(found, chart=chart))


def table(found: dict[str, Any], *, chart: bool = False) -> Table:
    """The answer, one tenant a row, its lanes below it; their sum at the end, where there are more.

    In a `chart` each row has a bar of its tokens, as long as its part of the most that any tenant has.
    """
    shown = Table("tenant", box=None, pad_edge=False)
    for name in ("requests", "input tokens", "output tokens", "cost"):
        shown.add_column(name, justify="right")
    most = max(map(_tokens, found["data"]), default=0) if chart else 0
    if chart:
        shown.add_column("tokens")
    for tenant in found["data"]:
        _add(shown, tenant["tenant"], tenant, most)
        for lane, sums in tenant.get("lanes", {}).items():
            _add(shown, f"  {lane}", sums, most)
    if len(found["data"]) > 1:
        _add(shown, "all", found["total"])
    return shown


def _tokens(sums: dict[str, Any]) -> int:
    return int(sums["input_tokens"] + sums["output_tokens"])


def _add(table: Table, name: str, sums: dict[str, Any], most: int = 0) -> None:
    counts = (f"{sums[of]:,}" for of in ("requests", "input_tokens", "output_tokens"))
    bar = [BLOCK * round(WIDTH * _tokens(sums) / most)] if most else []
    table.add_row(name, *counts, quantities.money(sums["cost_micros"]), *bar)
