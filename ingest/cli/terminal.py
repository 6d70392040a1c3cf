"""What commands print, and where: answers on stdout, all else on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import orjson
import typer
from rich.console import Console, RenderableType

from ingest.cli.fault import Fault
from ingest.cli.session import session

# A table on a pipe has no terminal to fit into: its rows stay whole.
PIPE_WIDTH: Final = 1_000


def lively() -> bool:
    """Whether somebody watches, so that things may move and have colours."""
    return sys.stdout.isatty() and sys.stderr.isatty()


def out() -> Console:
    """Standard output for what is drawn: as wide as the terminal, plain and as wide as it wants to be on a pipe."""
    # What users call their things is text, whatever brackets and colons are in it.
    return Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def put(what: RenderableType) -> None:
    """Print a text as it is, or something drawn."""
    if isinstance(what, str):
        print(what, flush=True)
        return
    console = out()
    if sys.stdout.isatty():
        console.print(what)
        return
    with console.capture() as drawn:
        console.print(what)
    print("\n".join(row.rstrip() for row in drawn.get().splitlines()), flush=True)


def aside() -> Console:
    """Standard error of a terminal, for bars."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """One line on stderr."""
    print(f"millrace: {text}", file=sys.stderr, flush=True)


def _remember(ctx: typer.Context, value: bool) -> bool:
    session(ctx).json |= value
    return value


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.", callback=_remember)]


def document(value: Any) -> None:
    """A JSON document on one line of stdout, indented for the eyes of a terminal."""
    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    print(orjson.dumps(value, option=option).decode(), flush=True)


def line(value: Any) -> None:
    """One of many JSON documents."""
    print(orjson.dumps(value).decode(), flush=True)


def show(ctx: typer.Context, value: Any, render: Callable[[], RenderableType]) -> None:
    """Print a value: as JSON where that was asked for, else what `render` makes of it."""
    if session(ctx).json:
        document(value)
    else:
        put(render())


def report(fault: Fault, *, as_json: bool) -> None:
    """Say on stderr why the command failed."""
    if as_json:
        print(orjson.dumps(fault.document()).decode(), file=sys.stderr, flush=True)
    else:
        say(fault.message)
