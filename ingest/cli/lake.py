"""millrace reconcile, rebuild, erase, report: the lake's own programs, for its operator."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from ingest.cli import stack


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (reconcile, rebuild, erase, report):
        app.command()(command)


def reconcile(day: Annotated[str, typer.Option("--day", help="YYYY-MM-DD, UTC; yesterday if not given.")] = "") -> None:
    """Prove a day to the token: engines, journal, topics and Parquet. Says where they differ.

    Exit status 1 where they do, 2 where it could not be found out.
    """
    _run("streams.reconcile", *(["--day", day] if day else []))


def rebuild(
    table: Annotated[str, typer.Argument(help="A table of the lake, such as usage.")],
    day: Annotated[str, typer.Argument(help="YYYY-MM-DD, UTC.")],
    hour: Annotated[int, typer.Argument(help="0 to 23; 24: rows that came late, 25: with a time that cannot be.")],
) -> None:
    """Write a finished partition of the lake anew from its topic: the same rows, with columns that are newer."""
    _run("streams.replay", table, day, str(hour))


def erase(
    tenant: Annotated[str, typer.Option("--tenant", help="Whose user it is.")],
    user: Annotated[str, typer.Option("--user", help="As requests name the person: safety_identifier, or user.")],
) -> None:
    """Erase a person from lake, cache and kept replies, and prove it. What was invoiced stays and names nobody.

    Exit status 1 where something is left, 2 where it could not be done: erase again to go on.
    """
    _run("streams.erase", "--tenant", tenant, "--user", user)


def report(
    days: Annotated[int, typer.Option("--days", min=1, help="The last so many days, today included.")] = 7,
    tenant: Annotated[str, typer.Option("--tenant", help="This tenant's rows only.")] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file.")] = None,
) -> None:
    """Usage, cost, savings, latency and moderation as one HTML file; prints where it is."""
    chosen = [*(["--tenant", tenant] if tenant else []), *(["--out", str(out)] if out else [])]
    _run("streams.report", "--days", str(days), *chosen)


def _run(module: str, *arguments: str) -> None:
    """Run a program of another package, whose output and exit status are ours."""
    stack.addresses(os.environ)
    done = subprocess.run([sys.executable, "-m", module, *arguments], check=False)
    if done.returncode:
        raise typer.Exit(done.returncode)
