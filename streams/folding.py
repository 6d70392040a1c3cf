"""Folding of text so that case, width, accents, zero-width marks and look-alike letters hide no phrase. Pure.

Every folded character keeps the index of the original character it came from, so a match can be masked in place.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from functools import lru_cache
from typing import Final, NamedTuple

# Letters of other scripts that look like Latin ones (a subset of Unicode's confusables.txt, UTS #39).
LOOKALIKES: Final = str.maketrans(
    {
        **dict(zip("авекмнорстухѕіїјһԁԛԝӏьәɡ", "abekmhopctyxsiijhdqwlbeg", strict=True)),  # Cyrillic
        **dict(zip("αβγεικνορτυχωηϲϳ", "abyeikvoptuxwncj", strict=True)),  # Greek
        **dict(zip("օսոհցզաɑıɩʟɪ℮", "ounhgqaaiilie", strict=True)),  # Armenian, phonetic, symbols
    }
)
BLANKS: Final = str.maketrans("\t\n\r\v\f\x1c\x1d\x1e\x1f", " " * 9)


class Folded(NamedTuple):
    """Folded text, and for each of its characters the index it had; None where nothing moved."""

    text: str
    origins: list[int] | None

    def origin(self, index: int, length: int) -> int:
        """Original index of folded `index`; `length` of the original text for the end."""
        if index >= len(self.text):
            return length
        return index if self.origins is None else self.origins[index]

    def index_at(self, origin: int) -> int:
        """First folded index that came from original index `origin` or later."""
        return origin if self.origins is None else bisect_left(self.origins, origin)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Original (start, end) of folded [start, end)."""
        if self.origins is None:
            return start, end
        return self.origins[start], self.origins[end - 1] + 1


@lru_cache(maxsize=65_536)
def fold_character(character: str) -> str:
    """What one character folds to: a few characters, or none for marks that show nothing."""
    if character.isspace():
        return " "
    out = []
    for part in unicodedata.normalize("NFKD", character).casefold().translate(LOOKALIKES):
        if unicodedata.category(part) not in ("Mn", "Me", "Cf", "Cc"):
            out.append(part)
    return "".join(out)


def fold(text: str) -> Folded:
    """The folded text. Runs of blanks become one space."""
    if text.isascii():
        lowered = text.lower().translate(BLANKS)
        if "  " not in lowered and lowered.isprintable():
            return Folded(lowered, None)
    out: list[str] = []
    origins: list[int] = []
    for i, character in enumerate(text):
        for part in fold_character(character):
            if part == " " and out and out[-1] == " ":
                continue
            out.append(part)
            origins.append(i)
    return Folded("".join(out), origins)
