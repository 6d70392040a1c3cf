"""`python -m infra.local up | down | status | logs | exec | env`, run with the Python of .venv."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import shlex
import sys
from collections.abc import Iterator

from infra.local.install import say
from infra.local.settings import Settings, Trouble


@contextlib.contextmanager
def alone(settings: Settings) -> Iterator[None]:
    """Keep other `up`s and `down`s of the same stack waiting meanwhile."""
    try:
        (settings.home / "run").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(
            f"{settings.home} cannot be made: {error.strerror}; set MILLRACE_HOME to a folder you may write"
        ) from None
    with (settings.home / "run" / "stack.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another up or down of this stack is at work; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="infra.local")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the stack; returns when it is healthy")
    up.add_argument("--only", default="", help="comma-separated services, for a part of the stack")
    up.add_argument("--connect", action="store_true", help="with Kafka Connect")
    commands.add_parser("down", help="stop the stack; its state stays")
    commands.add_parser("status", help="services and jobs")
    logs = commands.add_parser("logs", help="follow the logs")
    logs.add_argument("service", nargs="*")
    execute = commands.add_parser("exec", help="run a command with the environment of the stack")
    execute.add_argument("words", nargs=argparse.REMAINDER)
    commands.add_parser("setup", help="topics, schemas and a first configuration, for parts started elsewhere")
    ready = commands.add_parser("ready", help="whether a service answers: the health check of its container")
    ready.add_argument("service")
    commands.add_parser("env", help="print that environment, for a shell")
    return parser.parse_args()


def run(arguments: argparse.Namespace, settings: Settings) -> None:
    """Carry out one command; imports are here so that each pays for its own only."""
    if arguments.command == "up":
        from infra.local.up import up

        with alone(settings):
            up(settings, [name for name in arguments.only.split(",") if name], connect=arguments.connect)
    elif arguments.command == "down":
        from infra.local.down import down

        with alone(settings):
            down(settings)
    elif arguments.command == "status":
        from infra.local.status import status

        status(settings)
    elif arguments.command == "logs":
        from infra.local.status import logs

        logs(settings, arguments.service)
    elif arguments.command == "setup":
        from infra.local.setup import setup

        setup(settings)
    elif arguments.command == "ready":
        from infra.local.probes import PROBES

        if not PROBES[arguments.service](settings):
            raise Trouble(f"{arguments.service} is not ready")
    elif arguments.command == "env":
        for name, value in settings.environment("cli").items():
            print(f"export {name}={shlex.quote(value)}")
    else:
        words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
        path = f"{settings.venv / 'bin'}:{os.environ.get('PATH', '')}"
        os.execvpe(words[0], words, {**os.environ, **settings.environment("cli"), "PATH": path})


def main() -> int:
    """Run; 0, or 1 with one line on stderr."""
    try:
        run(arguments(), Settings.read(os.environ))
    except Trouble as trouble:
        say(str(trouble))
        return 1
    except OSError as error:
        say(f"failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
