"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Window = Annotated[str, typer.Option(help="How long it may take: <n>s, <n>m, <n>h or <n>d, up to 7d.")]
Metadata = Annotated[
    list[str] | None, typer.Option("--metadata", "-m", metavar="KEY=VALUE", help="Kept with it; may be repeated.")
]
Watching = Annotated[bool, typer.Option("--watch", "-w", help="Show its progress until it ends.")]


def pairs(given: list[str] | None) -> dict[str, str] | None:
    """Metadata from KEY=VALUE texts; None if there are none. Raises typer.BadParameter."""
    if not given:
        return None
    found: dict[str, str] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--metadata")
        if key in found:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint="--metadata")
        found[key] = value
    return found
