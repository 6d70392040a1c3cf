"""millrace apply: publish a folder of configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from ingest.cli import stack, terminal
from ingest.cli.fault import Fault
from ingest.cli.terminal import Json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(apply)


def apply(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Of YAML files.")] = Path("config"),
    json: Json = False,
) -> None:
    """Replace the whole configuration; live within seconds, no restart. An operator's command: it writes to Kafka."""
    from ingest import apply as applying
    from ingest.documents import DocumentError

    try:
        plan = applying.read(folder)
    except DocumentError as error:
        raise Fault(str(error), code="invalid_configuration") from None
    addresses = stack.addresses(os.environ)
    try:
        version = applying.to(addresses, plan)
    except applying.NotApplied as error:
        raise Fault(str(error), code="not_applied") from None
    read = plan.configuration
    answer = {
        "object": "configuration",
        "version": version,
        "kafka": addresses.kafka,
        "tenants": sorted(read.tenants),
        "models": sorted(read.models),
        "pools": sorted(read.pools),
        "connectors": sorted(plan.connectors),
    }
    terminal.show(ctx, answer, lambda: f"{applying.table(read)}\n\napplied configuration {version} ({addresses.kafka})")
