"""Becomes a service: `python -m infra.local.launch kafka`, started by the process manager.

It writes run/<service>.pid and then executes the real command in its own place, so the pid names the working process.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from infra.local import services
from infra.local.settings import Settings, Trouble

# Starts of a service that dies at once are at least this far apart; one that ran for a while restarts at once.
PACE_S: Final = 3.0
STACK: Final = "MILLRACE_STACK"
# What `make` puts into the environment of a recipe; a service has no use for it.
FOREIGN: Final = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "Q", "CONFIG", "S")


def pid_file(settings: Settings, service: str) -> Path:
    """Where the pid of a service stands."""
    return settings.home / "run" / f"{service}.pid"


def strays(settings: Settings, service: str = "") -> list[psutil.Process]:
    """Processes of this stack (of one service of it), by the mark in their environment, this one excepted."""
    found = []
    for process in psutil.process_iter():
        try:
            env = process.environ()
        except (psutil.Error, OSError):
            continue
        if env.get(STACK) == str(settings.home) and service in ("", env.get("MILLRACE_SERVICE", "")):
            found.append(process)
    return [process for process in found if process.pid != os.getpid()]


def clear(settings: Settings, service: str) -> None:
    """Kill what a killed predecessor left behind (its children), as that may hold ports."""
    path = pid_file(settings, service)
    if not path.exists():
        return
    for process in strays(settings, service):
        process.kill()
    age_s = time.time() - path.stat().st_mtime
    if 0 <= age_s < PACE_S:
        time.sleep(PACE_S - age_s)


def write(path: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old text or the new."""
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.replace(path)


def launch(name: str) -> None:
    """Become the service; raises Trouble or OSError if that cannot be."""
    settings = Settings.read(os.environ)
    service = services.BY_NAME[name]
    clear(settings, name)
    for folder in ("run", "logs"):
        (settings.home / folder).mkdir(parents=True, exist_ok=True)
    service.prepare(settings)
    inherited = {key: value for key, value in os.environ.items() if key not in FOREIGN}
    env = {**inherited, **settings.environment(name), **service.environment(settings), STACK: str(settings.home)}
    command = service.command(settings)
    write(pid_file(settings, name), f"{os.getpid()}\n")
    os.chdir(settings.home)
    os.execve(command[0], command, env)


def main() -> int:
    """Become the service named by the only argument, or return 1 with one line."""
    try:
        launch(sys.argv[1])
    except (Trouble, OSError, StopIteration) as error:
        print(f"millrace: {sys.argv[1]} cannot start: {error}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
