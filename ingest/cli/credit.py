"""millrace credit: what a prepaid tenant may spend."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ingest.cli import stack, terminal
from ingest.cli.fault import Fault
from ingest.cli.terminal import Json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    # A negative amount looks like an option.
    app.command(context_settings={"ignore_unknown_options": True})(credit)


def credit(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Whose balance.")],
    micros: Annotated[int, typer.Argument(help="Millionths of the currency unit; negative takes a credit back.")],
    refund: Annotated[str, typer.Option(metavar="REQUEST", help="The request it is given back for.")] = "",
    reason: Annotated[str, typer.Option(help="Kept with it.")] = "",
    by: Annotated[str, typer.Option(help="Who books it. (default: USER)")] = "",
    entry_id: Annotated[str, typer.Option("--id", help="Its own id: booking it twice counts once.")] = "",
    json: Json = False,
) -> None:
    """Book a credit or a refund on a prepaid balance. An operator's command: it writes to Kafka."""
    from ingest import credit as booking

    try:
        record, row = booking.run(
            stack.addresses(os.environ), booking.Asked(tenant, micros, refund, reason, by, entry_id)
        )
    except booking.BookingError as error:
        raise Fault(f"not booked: {error}", code="not_booked") from None
    answer = {"object": "credit", **(row or record), "booked": row is not None}
    terminal.show(ctx, answer, lambda: booking.told(record, row))
