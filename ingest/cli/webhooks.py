"""millrace webhooks: what became of the events that were to be told, and telling one again."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from ingest.cli import quantities, terminal
from ingest.cli.client import Client
from ingest.cli.session import session
from ingest.cli.terminal import Json

PAGE: Final = 100

Tenant = Annotated[str, typer.Option(help="Another tenant than the key's; for an operator's key.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Deliveries of webhooks: list them, and deliver one again.")
    group.command()(ls)
    group.command()(redeliver)
    app.add_typer(group, name="webhooks")


def found(client: Client, only: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """All deliveries that are `only` so, the latest begun first."""
    after: str | None = None
    while True:
        page = client.get("/webhooks/deliveries", limit=PAGE, after=after, **only)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def ls(
    ctx: typer.Context,
    status: Annotated[str, typer.Option(help="pending, delivered or failed.")] = "",
    batch_id: Annotated[str, typer.Option("--batch", metavar="BATCH", help="Of one batch.")] = "",
    endpoint: Annotated[str, typer.Option(help="To one endpoint.")] = "",
    tenant: Tenant = "",
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many.")] = 20,
    json: Json = False,
) -> None:
    """List deliveries, the latest begun first (--json: one JSON object a line)."""
    only = {"status": status, "batch_id": batch_id, "endpoint": endpoint, "tenant": tenant}
    rows = islice(found(session(ctx).client(), {k: v or None for k, v in only.items()}), limit)
    if session(ctx).json:
        for row in rows:
            terminal.line(row)
        return
    table = Table("event", "endpoint", "type", "batch", "status", "attempts", "last error", box=None, pad_edge=False)
    for row in rows:
        again = f", again {quantities.moment(row['next_attempt_at'])}" if row["next_attempt_at"] else ""
        what = (row["event_id"], row["endpoint"], row["type"], row["batch_id"], row["status"] + again)
        table.add_row(*what, str(len(row["attempts"])), row["last_error"] or "")
    terminal.put(table)


def redeliver(
    ctx: typer.Context,
    event_id: Annotated[str, typer.Argument(metavar="EVENT", help="The id of an event.")],
    endpoint: Annotated[str, typer.Option(help="To one endpoint; else to all that want it.")] = "",
    tenant: Tenant = "",
    json: Json = False,
) -> None:
    """Deliver an event again."""
    path = f"/webhooks/deliveries/{event_id}/redeliver"
    asked = {"endpoint": endpoint} if endpoint else {}
    told = session(ctx).client().post(path, asked, params={"tenant": tenant} if tenant else {})
    terminal.show(ctx, told, lambda: f"{told['event_id']} goes to {', '.join(told['endpoints'])}")
