"""Files of the API: finding and showing them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from rich.table import Table

from ingest.cli import quantities
from ingest.cli.client import Client

PAGE: Final = 1_000


def found(client: Client) -> Iterator[dict[str, Any]]:
    """All files of the key's tenant, newest first."""
    after: str | None = None
    while True:
        page = client.get("/files", limit=PAGE, after=after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def listing(files: list[dict[str, Any]]) -> Table:
    """Many files, one a row."""
    table = Table("file", "purpose", "size", "created", "expires", "name", box=None, pad_edge=False)
    for file in files:
        moments = (quantities.moment(file.get(at)) for at in ("created_at", "expires_at"))
        table.add_row(file["id"], file["purpose"], quantities.size(file["bytes"]), *moments, file["filename"])
    return table


def detail(file: dict[str, Any]) -> Table:
    """One file."""
    table = Table.grid(padding=(0, 2))
    for row in (
        ("file", file["id"]),
        ("name", file["filename"]),
        ("purpose", file["purpose"]),
        ("size", f"{file['bytes']:,} bytes"),
        ("created", quantities.moment(file["created_at"])),
        ("expires", quantities.moment(file.get("expires_at"))),
    ):
        table.add_row(*row)
    return table
