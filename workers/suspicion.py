"""Which work kills its worker. Pure; kept in the metadata of the partition's commit, one line of text.

A process that dies tells nobody what it was at, so the evidence must lie outside of it before it dies. It lies with the
offsets that it is about: as durable as they are, known to whoever has the partition next, free while all is well.

1. Who opens a partition signs it, who leaves takes the name back. A name of another found there: a worker has died.
2. From then on all that was in the log at that moment is suspect: its start is committed before it begins.
3. What is found begun was running when a worker died: it runs alone in its process, so the next death is its own.
4. What was running at DEATHS deaths, all but the first of them alone, is poison.
"""

from __future__ import annotations

from typing import Final

# The first death of a poison leaves no trace of it, the next one names all that ran, those after it only itself: one
# more than is proof of an innocent killed from outside.
DEATHS: Final = 3
# How far beyond the committed offset a dead worker may have been; doubled with each death until what killed it is in.
AHEAD: Final = 1_000
DOUBLINGS: Final = 10
# 200 suspects at 9 characters leave room for the finished offsets in 4 KiB.
KEPT: Final = 200


class Suspicion:
    """Of one partition. Times in ms UTC; `owner` is the process that works on it, empty when nobody does."""

    def __init__(self, owner: str = "", deaths: int = 0, until: int = 0, since_ms: int = 0) -> None:
        self.owner = owner
        self._deaths, self._until, self._since_ms = deaths, until, since_ms
        self._counts: dict[int, int] = {}
        self._running: set[int] = set()

    def suspects(self, offset: int, at_ms: int) -> bool:
        """Whether the start of a record written at `at_ms` must be committed before it begins."""
        return offset in self._counts or (offset < self._until and at_ms <= self._since_ms)

    def deaths(self, offset: int) -> int:
        """Deaths of workers at which this was running."""
        return self._counts.get(offset, 0)

    def start(self, offset: int) -> None:
        """It is about to run."""
        self._running.add(offset)

    def finish(self, offset: int) -> None:
        """It has ended, and killed nobody."""
        self._running.discard(offset)
        self._counts.pop(offset, None)

    def open(self, owner: str, low: int, now_ms: int) -> None:
        """`owner` takes the partition over, from the committed offset `low` on."""
        if self.owner not in ("", owner):
            self._until = max(self._until, low + AHEAD * 2 ** min(self._deaths, DOUBLINGS))
            self._since_ms = now_ms
            self._deaths += 1
            for offset in self._running:
                self._counts[offset] = self._counts.get(offset, 0) + 1
        self._running.clear()
        self.owner = owner

    def close(self) -> None:
        """The owner leaves; nothing of it runs."""
        self.owner = ""
        self._running.clear()

    def text(self, low: int) -> str:
        """As it is kept beside the committed offset `low`; empty when there is nothing to say."""
        over = low >= self._until
        names = sorted(self._running | self._counts.keys())[:KEPT]
        if not self.owner and over and not names:
            return ""
        kept = (f"{o - low}.{self._counts.get(o, 0)}{'r' if o in self._running else ''}" for o in names if o >= low)
        head = [self.owner, *((0, 0, 0) if over else (self._deaths, self._until - low, self._since_ms))]
        return "/".join(map(str, head)) + "/" + ",".join(kept)


def parse(low: int, text: str) -> Suspicion:
    """What was kept beside `low`; nothing if it is not ours."""
    try:
        owner, deaths, ahead, since_ms, kept = text.split("/")
        found = Suspicion(owner, int(deaths), low + int(ahead), int(since_ms))
        for part in filter(None, kept.split(",")):
            offset, count = part.removesuffix("r").split(".")
            if int(count):
                found._counts[low + int(offset)] = int(count)
            if part.endswith("r"):
                found._running.add(low + int(offset))
    except ValueError:
        return Suspicion()
    return found
