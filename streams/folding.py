"""Folding of text so that case, width, accents, zero-width marks and look-alike letters hide no phrase. Pure.

There are two views of a text. `skeleton` is what it looks like, in lower case, with runs of blanks as one space:
phrases and most patterns run on it. `plain` keeps case and line ends, for what depends on them, such as keys. Every
character of a view knows the original character it came from, so a match can be masked in place.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final, NamedTuple

from streams import lookalikes

BLANKS: Final = str.maketrans("\t\n\r\v\f\x1c\x1d\x1e\x1f", " " * 9)
LINES: Final = str.maketrans("\t\v\f\r", "   \n")
# Of ASCII: controls that show nothing.
HIDDEN: Final = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
RUN: Final = re.compile(r"  +")


class Shift(NamedTuple):
    """Where pieces of a derived text begin in it, and where each began in the text before. Pieces run in parallel."""

    starts: list[int]
    origins: list[int]

    def back(self, index: int) -> int:
        """Index before the derivation of a character at `index` after it."""
        piece = bisect_right(self.starts, index) - 1
        return self.origins[piece] + index - self.starts[piece]


NOTHING: Final[tuple[Shift, ...]] = ()


class Folded(NamedTuple):
    """A view of a text, the length of the original, and the shifts that lead back to it, the last first."""

    text: str
    length: int
    shifts: tuple[Shift, ...] = ()

    def origin(self, index: int) -> int:
        """Original index of the character at `index` of the view; the original's length for the end."""
        if index >= len(self.text):
            return self.length
        for shift in self.shifts:
            index = shift.back(index)
        return index

    def index_at(self, origin: int) -> int:
        """First index of the view that came from original index `origin` or later."""
        if not self.shifts:
            return min(origin, len(self.text))
        return bisect_left(range(len(self.text)), origin, key=self.origin)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Original (start, end) of [start, end) of the view, with all that shows nothing behind its last character."""
        if not self.shifts:
            return start, end
        return self.origin(start), max(self.origin(end - 1) + 1, self.origin(end))


class _Table(dict[int, str]):
    """A translation table that fills itself."""

    def __init__(self, fold: Callable[[str], str]) -> None:
        self._fold = fold

    def __missing__(self, code: int) -> str:
        folded = self._fold(chr(code))
        if len(self) < 65_536:
            self[code] = folded
        return folded


_SKELETON: Final = _Table(lookalikes.skeleton)
_PLAIN: Final = _Table(lookalikes.plain)


def skeleton(text: str) -> Folded:
    """The text as a reader sees it, in lower case, runs of blanks as one space."""
    if text.isascii() and text.isprintable():
        seen, shifts = text.lower(), NOTHING
    elif text.isascii() and not HIDDEN.search(text):
        seen, shifts = text.lower().translate(BLANKS), NOTHING
    else:
        seen, shifts = _translate(text, _SKELETON)
    if "  " not in seen:
        return Folded(seen, len(text), shifts)
    starts, origins, length, at = [0], [0], 0, 0
    out: list[str] = []
    for run in RUN.finditer(seen):
        out.append(seen[at : run.start() + 1])
        length += len(out[-1])
        at = run.end()
        starts.append(length)
        origins.append(at)
    out.append(seen[at:])
    return Folded("".join(out), len(text), (Shift(starts, origins), *shifts))


def plain(text: str) -> Folded:
    """The text without presentation and without what shows nothing; case, letters and line ends as they are."""
    if text.isascii() and text.isprintable():
        return Folded(text, len(text))
    if text.isascii() and not HIDDEN.search(text):
        return Folded(text.translate(LINES), len(text))
    seen, shifts = _translate(text, _PLAIN)
    return Folded(seen, len(text), shifts)


def _translate(text: str, table: _Table) -> tuple[str, tuple[Shift, ...]]:
    seen = text.translate(table)
    moving = "".join(sorted(c for c in set(text) if len(table[ord(c)]) != 1))
    if not moving:
        return seen, NOTHING
    starts, origins, length, at = [0], [0], 0, 0
    for match in re.finditer(f"[{re.escape(moving)}]", text):
        length += match.start() - at
        at = match.end()
        for i in range(len(table[ord(match[0])])):
            starts.append(length + i)
            origins.append(match.start())
        length += len(table[ord(match[0])])
        starts.append(length)
        origins.append(at)
    return seen, (Shift(starts, origins),)
