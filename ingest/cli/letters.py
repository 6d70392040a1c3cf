"""millrace dead-letters: what could not be understood. The command line is that of ingest/dead_letters.py."""

from __future__ import annotations

import os

import typer

from ingest.cli import stack


def add_to(app: typer.Typer) -> None:
    """Add the command, with all that follows it."""
    whole = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command("dead-letters", context_settings=whole, add_help_option=False)(dead_letters)


def dead_letters(ctx: typer.Context) -> None:
    """List, show and replay dead letters (list [--json], show, replay; each knows --help)."""
    from ingest import dead_letters as letters

    wanted = ctx.args or ["--help"]
    if not {"-h", "--help"}.intersection(wanted):
        stack.addresses(os.environ)
    raise typer.Exit(letters.main(wanted, "millrace dead-letters"))
