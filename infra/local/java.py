"""Command lines of Java processes."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from infra.local.settings import Settings

# For what lives shortly or computes little: the optimising compiler would cost more than it gives.
FIRST_COMPILER: Final = "-XX:TieredStopAtLevel=1"
QUIET: Final = ("-Xlog:disable", "-Xlog:all=error:stderr")


def command(settings: Settings, heap: str, *rest: str) -> list[str]:
    """`java` with a bounded heap; `rest` is the classpath, the main class and its arguments.

    An archive of the classes of the last run (-XX:+AutoCreateSharedArchive) would halve the start, but with JDK 21 it
    breaks the SQL planner: Class.getComponentType() of an archived array class is null.
    """
    return [
        str(settings.java),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        *QUIET,
        *rest,
    ]


def classpath(folder: Path, last: str = "") -> str:
    """All jars of a folder in the order of their names, those that begin with `last` at the end."""
    jars = sorted(folder.glob("*.jar"), key=lambda jar: (bool(last) and jar.name.startswith(last), jar.name))
    return ":".join(map(str, jars))
