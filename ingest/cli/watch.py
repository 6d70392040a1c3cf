"""millrace watch: batches as they go, until they end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import islice
from typing import Annotated, Any, Final

import typer
from rich.console import Group
from rich.live import Live

from ingest.cli import batch, batches, board, progress, terminal
from ingest.cli.client import Client
from ingest.cli.progress import Meter
from ingest.cli.session import session
from ingest.cli.terminal import Json

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
        last = _as_json(watched, every_s)
    elif terminal.lively():
        last = _lively(watched, every_s)
    else:
        last = _plainly(watched, every_s)
    if any(one["status"] != "completed" for one in last):
        raise typer.Exit(1)


class Watched:
    """Batches that are looked at again and again."""

    def __init__(self, client: Client, ids: list[str]) -> None:
        self._client = client
        self._meters = {batch_id: Meter() for batch_id in ids}
        self._known: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, dict[str, Any]] = {}

    def look(self) -> list[dict[str, Any]]:
        """The progress of every batch now; those that have ended are not asked for again. Raises Fault."""
        for batch_id, meter in self._meters.items():
            if batch_id in self._known and progress.ended(self._known[batch_id]):
                continue
            found = self._known[batch_id] = self._client.get(f"/batches/{batch_id}")
            meter.add(time.monotonic(), (found.get("usage") or {}).get("total_tokens", 0))
            self._seen[batch_id] = progress.document(found, meter.per_second, None)
        return list(self._seen.values())

    def name(self, batch_id: str) -> str:
        """What its owner calls it."""
        return batch.name(self._known[batch_id])


def _over(rows: list[dict[str, Any]]) -> bool:
    return all(row["status"] in batch.ENDED for row in rows)


def _as_json(watched: Watched, every_s: float) -> list[dict[str, Any]]:
    before: dict[str, dict[str, Any]] = {}
    while True:
        rows = watched.look()
        for row in rows:
            if before.get(row["id"]) != row:
                terminal.line(row)
                before[row["id"]] = row
        if _over(rows):
            return rows
        time.sleep(every_s)


def _lively(watched: Watched, every_s: float) -> list[dict[str, Any]]:
    with Live(console=terminal.out(), auto_refresh=False, transient=False) as live:
        while True:
            rows, now_s = watched.look(), time.time()
            live.update(Group(*(board.block(row, watched.name(row["id"]), now_s) for row in rows)), refresh=True)
            if _over(rows):
                return rows
            time.sleep(every_s)


def _plainly(watched: Watched, every_s: float) -> list[dict[str, Any]]:
    """Progress in lines on stderr, ends on stdout."""
    told: dict[str, tuple[str, float]] = {}
    while True:
        rows, now_s = watched.look(), time.time()
        for row in rows:
            status, at = told.get(row["id"], ("", 0.0))
            over = row["status"] in batch.ENDED
            if row["status"] == status and (over or now_s - at < PLAIN_EVERY_S):
                continue
            told[row["id"]] = row["status"], now_s
            if over:
                print(board.line(row, now_s), flush=True)
            else:
                terminal.say(board.line(row, now_s))
        if _over(rows):
            return rows
        time.sleep(every_s)
