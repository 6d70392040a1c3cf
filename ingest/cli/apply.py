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

    addresses = stack.addresses(os.environ)
    try:
        read, connectors = applying.read(addresses, folder)
        version = applying.to(addresses, read, connectors)
    except DocumentError as error:
        raise Fault(str(error), code="invalid_configuration") from None
    except applying.NotApplied as error:
        raise Fault(f"not applied: {error}", code="not_applied") from None
    answer = {
        "object": "configuration",
        "version": version,
        "kafka": addresses.kafka,
        "tenants": sorted(read.tenants),
        "models": sorted(read.models),
        "pools": sorted(read.pools),
        "connectors": sorted(connectors),
    }
    terminal.show(ctx, answer, lambda: f"{applying.table(read)}\n\napplied configuration {version} ({addresses.kafka})")
