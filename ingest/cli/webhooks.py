"""millrace webhooks: what became of the events that were to be told, and telling one again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from ingest.cli import quantities, terminal
from ingest.cli.client import Client
from ingest.cli.session import session
from ingest.cli.terminal import Json

PAGE: Final = 100
PLACE: Final = "/webhooks/deliveries"

Tenant = Annotated[str, typer.Option(help="Another tenant; needs an admin's key.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="What became of webhooks, and telling an event again.")
    for command in (ls, redeliver):
        group.command()(command)
    app.add_typer(group, name="webhooks")


def found(client: Client, only: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Deliveries of the last eight days, the latest begun first."""
    after: str | None = None
    while True:
        page = client.get(PLACE, limit=PAGE, after=after, **only)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def ls(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the latest.")] = 20,
    status: Annotated[str, typer.Option(help="Only those that are pending, delivered or failed.")] = "",
    batch: Annotated[str, typer.Option(metavar="BATCH", help="Only those about a batch.")] = "",
    tenant: Tenant = "",
    json: Json = False,
) -> None:
    """List deliveries (--json: one JSON object a line)."""
    client = session(ctx).client()
    kept: list[dict[str, Any]] = []
    for one in found(client, {"status": status or None, "batch_id": batch or None, "tenant": tenant or None}):
        if session(ctx).json:
            terminal.line(one)
        kept.append(one)
        if len(kept) == limit:
            break
    if session(ctx).json:
        return
    if kept:
        terminal.put(table(kept))
    else:
        terminal.say("there are none")


def table(deliveries: list[dict[str, Any]]) -> Table:
    """One delivery a row."""
    shown = Table(box=None, pad_edge=False)
    for name in ("event", "type", "batch", "endpoint", "status", "attempts", "next", "last error"):
        shown.add_column(name, justify="right" if name == "attempts" else "left")
    for d in deliveries:
        attempts, error = str(len(d["attempts"])), d["last_error"] or ""
        about = (d["event_id"], d["type"], d["batch_id"], d["endpoint"], d["status"], attempts)
        shown.add_row(*about, quantities.moment(d["next_attempt_at"]), error)
    return shown


def redeliver(
    ctx: typer.Context,
    event: Annotated[str, typer.Argument(metavar="EVENT", help="An event's id.")],
    endpoint: Annotated[str, typer.Option(help="Only to this endpoint.")] = "",
    tenant: Tenant = "",
    json: Json = False,
) -> None:
    """Tell an event again, to all endpoints that want such events; prints their names."""
    params = {"tenant": tenant} if tenant else {}
    body = {"endpoint": endpoint} if endpoint else {}
    told = session(ctx).client().post(f"{PLACE}/{event}/redeliver", body, params=params)
    terminal.show(ctx, told, lambda: "\n".join(told["endpoints"]))
