"""millrace watch: batches as they go, until they end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live

from ingest.cli import batch, batches, board, terminal
from ingest.cli.client import Client
from ingest.cli.session import session
from ingest.cli.terminal import Json
from ingest.cli.watched import Watched

MAX_WATCHED: Final = 100
# On a pipe nobody wants a line a second: one at each change of status, and so often in between.
PLAIN_EVERY_S: Final = 5.0


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(watch)


def watch(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[BATCH...]", help="Ids; all that run, if none is given.")
    ] = None,
    every: Annotated[float, typer.Option(min=0.2, help="Seconds between two looks.")] = 1.0,
    json: Json = False,
) -> None:
    """Show the progress of batches until all of them have ended (--json: one JSON object a line, at each change).

    Exit status 1 if one of them ended otherwise than completed.
    """
    client = session(ctx).client()
    if ids is None:
        running = (b["id"] for b in batches.found(client) if b["status"] not in batch.ENDED)
        ids = list(islice(running, MAX_WATCHED))
        if not ids:
            terminal.say("no batch is running")
            return
    if len(ids) > MAX_WATCHED:
        raise typer.BadParameter(f"at most {MAX_WATCHED} batches can be watched at once", param_hint="BATCH")
    follow(ctx, client, ids, every)


def follow(ctx: typer.Context, client: Client, ids: Iterable[str], every_s: float = 1.0) -> None:
    """Show batches until all have ended. Raises typer.Exit(1) if one did not complete."""
    watched = Watched(client, list(dict.fromkeys(ids)))
    if session(ctx).json:
        _as_json(watched, every_s)
    elif terminal.lively():
        _lively(watched, every_s)
    else:
        _plainly(watched, every_s)
    if any(row["status"] != "completed" for row in watched.rows):
        raise typer.Exit(1)


def _as_json(watched: Watched, every_s: float) -> None:
    before: dict[str, dict[str, Any]] = {}
    while True:
        watched.look()
        for row in (*watched.rows, *watched.lanes):
            key = row["id"] if "id" in row else row["lane"]
            if before.get(key) != row:
                terminal.line(row)
                before[key] = row
        if watched.over:
            return
        time.sleep(every_s)


def _lively(watched: Watched, every_s: float) -> None:
    with Live(console=terminal.out(), auto_refresh=False, transient=False) as live:
        while True:
            watched.look()
            blocks = [board.block(row, watched.name(row["id"]), time.time()) for row in watched.rows]
            over = watched.over
            live.update(Group(*blocks, *([] if over else [board.footer(watched.lanes)])), refresh=True)
            if over:
                return
            time.sleep(every_s)


def _plainly(watched: Watched, every_s: float) -> None:
    """Progress in lines on stderr; how each batch ended on stdout, once its cost is known."""
    told: dict[str, tuple[str, float]] = {}
    while True:
        watched.look()
        now_s = time.time()
        for row in watched.rows:
            status, at = told.get(row["id"], ("", 0.0))
            if row["status"] in batch.ENDED or (row["status"] == status and now_s - at < PLAIN_EVERY_S):
                continue
            told[row["id"]] = row["status"], now_s
            terminal.say(board.line(row, now_s))
        if watched.over:
            break
        time.sleep(every_s)
    for row in watched.rows:
        print(board.line(row, now_s), flush=True)
