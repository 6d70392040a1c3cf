"""Entry point of `millrace`; also `python -m ingest.cli`."""

from __future__ import annotations

import io
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from ingest.cli import (
    apply,
    batches,
    chat,
    credit,
    dead_letters,
    get,
    keys,
    lake,
    submit,
    terminal,
    usage,
    watch,
    webhooks,
)
from ingest.cli.fault import Fault
from ingest.cli.session import Session, session

# The order of `millrace --help`.
MODULES: Final = (submit, watch, get, batches, chat, usage, webhooks, keys, credit, dead_letters, apply, lake)


class Commands(TyperGroup):
    """All commands; a Fault of any of them is told in one line, and is exit status 1."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except Fault as fault:
            terminal.report(fault, as_json=session(ctx).json)
            raise typer.Exit(1) from None


app: Final = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def millrace(
    ctx: typer.Context,
    url: Annotated[str, typer.Option(help="The API. (MILLRACE_URL; else the local stack)")] = "",
    key: Annotated[str, typer.Option(help="The API key. (MILLRACE_API_KEY)")] = "",
    json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs; also after a command.")] = False,
) -> None:
    """Millrace from the command line: batches, calls, usage, configuration.

    Exit status: 0 done; 1 what was asked for failed; 2 the command line makes no sense; 130 interrupted.
    """
    ctx.obj = Session(url, key, json)


for module in MODULES:
    module.add_to(app)


def main() -> None:
    """Run the command line; exits."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What an old terminal cannot show is a question mark there, and no fault.
            stream.reconfigure(errors="replace")
    app(prog_name="millrace")


if __name__ == "__main__":
    main()
