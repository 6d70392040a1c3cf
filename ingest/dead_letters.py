"""Lists, shows and replays dead letters: `python -m ingest.dead_letters list | show NUMBER | replay NUMBER...`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from itertools import islice

from confluent_kafka import KafkaException

from ingest import letter_topics, letters
from ingest.letter_topics import LetterError
from ingest.letters import Choice
from ingest.publication import PublicationError
from schemas import registry
from schemas.addresses import Addresses
from schemas.wire import Codec


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m ingest.dead_letters", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    choosing = argparse.ArgumentParser(add_help=False)
    choosing.add_argument("--tenant", default="")
    choosing.add_argument("--topic", default="", help="the topic they come from")
    choosing.add_argument("--reason", default="", metavar="TEXT", help="a part of the reason")
    listing = commands.add_parser("list", parents=[choosing], help="one line each, oldest first")
    listing.add_argument("--replayed", action="store_true", help="those that were replayed, too")
    listing.add_argument("--json", action="store_true", help="one JSON object a line; bytes in base64")
    listing.add_argument("-n", "--limit", type=int, default=None)
    show = commands.add_parser("show", help="all of one letter as JSON, or its original bytes")
    show.add_argument("number", type=int)
    show.add_argument("--raw", action="store_true", help="the original bytes, and nothing else")
    replay = commands.add_parser("replay", parents=[choosing], help="write the original bytes back to their topic")
    replay.add_argument("numbers", type=int, nargs="*", metavar="NUMBER")
    replay.add_argument("--all", action="store_true", help="all that are open, or those chosen by the options")
    return parser


def list_(addresses: Addresses, codec: Codec, args: argparse.Namespace) -> int:
    """One line for each letter."""
    choice = Choice(None, args.tenant, args.topic, args.reason, args.replayed)
    chosen = (letter for letter in letter_topics.read(addresses.kafka, codec) if choice.takes(letter))
    for letter in islice(chosen, args.limit):
        print(json.dumps(letters.document(letter)) if args.json else letters.line(letter))
    return 0


def show(addresses: Addresses, codec: Codec, args: argparse.Namespace) -> int:
    """One letter."""
    wanted = Choice({args.number}, replayed=True)
    for letter in letter_topics.read(addresses.kafka, codec):
        if wanted.takes(letter):
            if args.raw:
                sys.stdout.buffer.write(letter.record["value"])
            else:
                print(json.dumps(letters.document(letter), indent=2))
            return 0
    print(f"there is no letter {args.number}", file=sys.stderr)
    return 1


def replay(addresses: Addresses, codec: Codec, args: argparse.Namespace) -> int:
    """Write letters back; 1 if one of those that were named was not."""
    if bool(args.numbers) == args.all:
        print("name the letters, or say --all", file=sys.stderr)
        return 2
    choice = Choice(set(args.numbers) or None, args.tenant, args.topic, args.reason, replayed=bool(args.numbers))
    chosen = (letter for letter in letter_topics.read(addresses.kafka, codec) if choice.takes(letter))
    by = os.environ.get("USER", "operator")
    done, missing = 0, set(args.numbers)
    for letter, obstacle in letter_topics.replay(addresses.kafka, codec, chosen, by):
        if obstacle:
            print(f"{letter.number} {obstacle}", file=sys.stderr)
        else:
            done += 1
            missing.discard(letter.number)
    print(f"{done} replayed")
    return 1 if missing else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; the exit status."""
    args = arguments().parse_args(argv)
    addresses = Addresses.of(os.environ)
    try:
        codec = registry.connect(addresses.registry)
        return {"list": list_, "show": show, "replay": replay}[args.command](addresses, codec, args)
    except (LetterError, PublicationError, KafkaException) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
