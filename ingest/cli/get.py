"""millrace get: a batch or a file, and what is in it."""

from __future__ import annotations

from typing import Annotated

import typer

from ingest.cli import batch, download, files, terminal
from ingest.cli.client import Client
from ingest.cli.session import session
from ingest.cli.terminal import Json


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(get)


def get(
    ctx: typer.Context,
    object_id: Annotated[str, typer.Argument(metavar="ID", help="A batch or a file.")],
    results: Annotated[
        str,
        typer.Option("--results", "-o", metavar="FILE", help="Write the results (or a file's content); - is stdout."),
    ] = "",
    errors: Annotated[
        str, typer.Option("--errors", metavar="FILE", help="Write the lines that failed; - is stdout.")
    ] = "",
    partial: Annotated[bool, typer.Option("--partial", help="Those so far, of a batch that still runs.")] = False,
    json: Json = False,
) -> None:
    """Show a batch or a file; with --results or --errors, write what is in it."""
    wanted = {kind: target for kind, target in (("output", results), ("error", errors)) if target}
    if partial and not wanted:
        raise typer.BadParameter("it goes with --results or --errors", param_hint="--partial")
    if results == errors == "-":
        raise typer.BadParameter("only one of them can be on stdout", param_hint="--errors")
    client = session(ctx).client()
    if object_id.startswith("file-"):
        _file(ctx, client, object_id, results, batch_only=partial or bool(errors))
        return
    found = client.get(f"/batches/{object_id}")
    if not wanted:
        terminal.show(ctx, found, lambda: batch.detail(found))
        return
    for kind, target in wanted.items():
        written = download.batch_content(client, found, kind, target, partial=partial)
        _tell(ctx, written)


def _file(ctx: typer.Context, client: Client, file_id: str, target: str, *, batch_only: bool) -> None:
    if batch_only:
        raise typer.BadParameter("a file has neither errors nor parts of them", param_hint="--errors, --partial")
    if target:
        _tell(ctx, download.file_content(client, file_id, target))
        return
    found = client.get(f"/files/{file_id}")
    terminal.show(ctx, found, lambda: files.detail(found))


def _tell(ctx: typer.Context, written: download.Written) -> None:
    """Say what was written where; nothing if stdout has it."""
    if written.path == "-":
        return
    if session(ctx).json:
        terminal.line({"object": "download", **written._asdict()})
    else:
        terminal.say(f"{written.path}: {written.lines:,} lines")
