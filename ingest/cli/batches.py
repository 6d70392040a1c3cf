"""millrace ls, cancel, pause, resume, retry."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from typing import Annotated, Any, Final

import typer

from ingest.cli import batch, files, terminal, watch
from ingest.cli.client import Client
from ingest.cli.fault import Fault
from ingest.cli.options import Metadata, Watching, pairs
from ingest.cli.session import session
from ingest.cli.terminal import Json

PAGE: Final = 100

Ids = Annotated[list[str], typer.Argument(metavar="BATCH...", help="Ids of batches.", show_default=False)]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (ls, cancel, pause, resume, retry):
        app.command()(command)


def found(client: Client) -> Iterator[dict[str, Any]]:
    """All batches of the key's tenant, newest first."""
    after: str | None = None
    while True:
        page = client.get("/batches", limit=PAGE, after=after)
        yield from page["data"]
        if not page["has_more"]:
            return
        after = page["last_id"]


def ls(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 20,
    all_: Annotated[bool, typer.Option("--all", help="All of them.")] = False,
    status: Annotated[list[str] | None, typer.Option(help="Only those in this status; may be repeated.")] = None,
    files_: Annotated[bool, typer.Option("--files", help="Files instead of batches.")] = False,
    json: Json = False,
) -> None:
    """List batches, newest first (--json: one JSON object a line)."""
    client = session(ctx).client()
    if files_ and status:
        raise typer.BadParameter("files have no status to choose by", param_hint="--status")
    kept: list[dict[str, Any]] = []
    for one in files.found(client) if files_ else found(client):
        if status and one["status"] not in status:
            continue
        if session(ctx).json:
            terminal.line(one)
        kept.append(one)
        if len(kept) == limit and not all_:
            break
    if not session(ctx).json:
        if kept:
            terminal.put(files.listing(kept) if files_ else batch.listing(kept))
        else:
            terminal.say("there are none")


def _order(ctx: typer.Context, ids: list[str], name: str) -> None:
    """Send the same order to some batches; one that refuses it does not keep it from the others."""
    client, refused = session(ctx).client(), 0
    for batch_id in ids:
        try:
            changed = client.post(f"/batches/{batch_id}/{name}")
        except Fault as fault:
            if not fault.status:
                raise
            refused += 1
            about = Fault(f"{batch_id}: {fault.message}", code=fault.code, status=fault.status, param=fault.param)
            terminal.report(about, as_json=session(ctx).json)
            continue
        if session(ctx).json:
            terminal.line(changed)
        else:
            print(f"{changed['id']} {batch.state(changed)}", flush=True)
    if refused:
        raise typer.Exit(1)


def cancel(ctx: typer.Context, ids: Ids, json: Json = False) -> None:
    """Cancel batches; what is answered already is kept."""
    _order(ctx, ids, "cancel")


def pause(ctx: typer.Context, ids: Ids, json: Json = False) -> None:
    """Hold batches back: no further line begins."""
    _order(ctx, ids, "pause")


def resume(ctx: typer.Context, ids: Ids, json: Json = False) -> None:
    """Let paused batches go on."""
    _order(ctx, ids, "resume")


def retry(
    ctx: typer.Context,
    batch_id: Annotated[str, typer.Argument(metavar="BATCH", help="An ended batch.")],
    only: Annotated[
        list[str] | None, typer.Option(help="Only lines that ended so: failed, expired, cancelled; may be repeated.")
    ] = None,
    window: Annotated[str, typer.Option(help="Another window than before.")] = "",
    metadata: Metadata = None,
    watching: Watching = False,
    json: Json = False,
) -> None:
    """Run the lines without an answer again, as a new batch; prints its id."""
    client = session(ctx).client()
    ask: dict[str, Any] = {"only": only or None, "completion_window": window or None, "metadata": pairs(metadata)}
    body = {name: value for name, value in ask.items() if value is not None}
    new = client.post(f"/batches/{batch_id}/retry", body, key=str(uuid.uuid4()))
    started(ctx, client, new, watching)


def started(ctx: typer.Context, client: Client, new: dict[str, Any], watching: bool) -> None:
    """Tell of a batch that was just made: its id, or its progress until it ends."""
    if watching:
        terminal.say(f"{new['id']} is made")
        watch.follow(ctx, client, [new["id"]])
        return
    terminal.show(ctx, new, partial(str, new["id"]))
