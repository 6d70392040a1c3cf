"""millrace dead-letters: records that could not be understood. The operator's: they lie in Kafka, of all tenants."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ingest.cli import stack, terminal
from ingest.cli.fault import Fault
from ingest.cli.session import session
from ingest.cli.terminal import Json

if TYPE_CHECKING:
    from ingest.letters import Choice, Letter
    from schemas.wire import Codec

HELP: Final = "List, show and replay records that could not be understood."

Tenant = Annotated[str, typer.Option(help="Only those of one tenant.")]
Topic = Annotated[str, typer.Option(help="Only those from one topic.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Only those whose reason holds this.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help=HELP)
    for command in (ls, show, replay):
        group.command()(command)
    app.add_typer(group, name="dead-letters")


@contextmanager
def _kafka() -> Iterator[tuple[str, Codec]]:
    """(address, codec) of the stack; what fails in there is a Fault."""
    from confluent_kafka import KafkaException

    from ingest.letter_topics import LetterError
    from ingest.publication import PublicationError
    from schemas import registry

    addresses = stack.addresses(os.environ)
    try:
        codec = registry.connect(addresses.registry)
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        message = f"the schema registry at {addresses.registry} failed: {error}; is the stack up (`make up`)?"
        raise Fault(message, code="unreachable") from None
    try:
        yield addresses.kafka, codec
    except (LetterError, PublicationError, KafkaException) as error:
        raise Fault(str(error), code="unreachable") from None


def _chosen(bootstrap: str, codec: Codec, choice: Choice) -> Iterator[Letter]:
    from ingest import letter_topics

    return (letter for letter in letter_topics.read(bootstrap, codec) if choice.takes(letter))


def ls(
    ctx: typer.Context,
    tenant: Tenant = "",
    topic: Topic = "",
    reason: Reason = "",
    replayed: Annotated[bool, typer.Option("--replayed", help="Those that were replayed, too.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many, the oldest.")] = None,
    json: Json = False,
) -> None:
    """List them, oldest first (--json: one JSON object a line, bytes in base64)."""
    from ingest import letters
    from ingest.letters import Choice

    with _kafka() as (bootstrap, codec):
        for letter in islice(_chosen(bootstrap, codec, Choice(None, tenant, topic, reason, replayed)), limit):
            if session(ctx).json:
                terminal.line(letters.document(letter))
            else:
                terminal.put(letters.line(letter))


def show(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="Its number in the list.")],
    raw: Annotated[bool, typer.Option("--raw", help="The original bytes, and nothing else.")] = False,
    json: Json = False,
) -> None:
    """Show all of one letter, or its original bytes."""
    from ingest import letters
    from ingest.letters import Choice

    with _kafka() as (bootstrap, codec):
        letter = next(_chosen(bootstrap, codec, Choice({number}, replayed=True)), None)
    if letter is None:
        raise Fault(f"there is no letter {number}", code="not_found")
    if raw:
        sys.stdout.buffer.write(letter.record["value"])
    elif session(ctx).json:
        terminal.document(letters.document(letter))
    else:
        terminal.put(f"{letters.line(letter)}\n{letters.printable(letter.record['value'], letters.SHOWN_BYTES)}")


def replay(
    ctx: typer.Context,
    numbers: Annotated[list[int] | None, typer.Argument(metavar="[NUMBER]...", help="Numbers in the list.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are open, or those the options choose.")] = False,
    tenant: Tenant = "",
    topic: Topic = "",
    reason: Reason = "",
    json: Json = False,
) -> None:
    """Write the original bytes back to their topic, each once; 1 if one of those named was not."""
    from ingest import letter_topics
    from ingest.letters import Choice

    if bool(numbers) == all_:
        raise typer.BadParameter("name the letters, or say --all")
    named = set(numbers or ())
    choice = Choice(named or None, tenant, topic, reason, replayed=bool(named))
    done: list[int] = []
    with _kafka() as (bootstrap, codec):
        chosen = _chosen(bootstrap, codec, choice)
        for letter, obstacle in letter_topics.replay(bootstrap, codec, chosen, os.environ.get("USER", "operator")):
            if obstacle:
                terminal.say(f"{letter.number} {obstacle}")
            else:
                done.append(letter.number)
    missing = sorted(named - set(done))
    answer = {"object": "replay", "replayed": len(done), "numbers": done, "not_replayed": missing}
    terminal.show(ctx, answer, lambda: f"{len(done)} replayed")
    if missing:
        raise typer.Exit(1)
