"""What single characters look like: letters, digits and marks of any script, as a reader of Latin text sees them. Pure.

The table of look-alikes is that of UTS #39 (Unicode confusables, from the package confusable-homoglyphs), cut down to
what may stand for an ASCII character, and completed by hand where it looks at upper case only or not at all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from confusable_homoglyphs.confusables import confusables_data

_BY_HAND: Final = {
    **dict(zip("авекмнорстухѕіїјһԁԛԝӏьәɡгпѵѡѳ", "abekmhopctyxsiijhdqwlbegrnvwo", strict=True)),  # Cyrillic
    **dict(zip("αβγεικνορτυχωηϲϳσζμ", "abyeikvoptuxwncjozu", strict=True)),  # Greek
    **dict(zip("օսոհցզտրեիլյ", "ounhgqsreilj", strict=True)),  # Armenian
    **dict(zip("ɑɩ℮∂€¢£¥", "aieeecly", strict=True)),
}
# Letters in a circle or a box that Unicode does not decompose, and flags made of letters.
_BOXED: Final = {
    chr(first + i): chr(ord("a") + i)
    for first in (0x24B6, 0x1F150, 0x1F170, 0x1F1E6, 0x249C, 0x1F110)
    for i in range(26)
}
# Latin letters with a bar, a hook or a tail, and small capitals.
_LATIN: Final = re.compile(r"LATIN (?:SMALL LETTER|CAPITAL LETTER|LETTER SMALL CAPITAL) ([A-Z])(?: WITH .*| BAR)?$")
# Nothing to see, although Unicode calls them letters or leaves them unassigned.
_FILLERS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2065\u17b4\u17b5")
_EMPTY: Final = frozenset({"Mn", "Me", "Cf", "Cc", "Cs"})
_BRAILLE_BLANK: Final = "\u2800"


def _confusables() -> Iterator[tuple[str, str]]:
    """Pairs of a character beyond ASCII and the one ASCII character it may be taken for."""
    for shape, others in confusables_data.items():
        base = "".join(c for c in unicodedata.normalize("NFKD", shape) if unicodedata.category(c)[0] != "M")
        base = "m" if base == "rn" else base
        if len(base) != 1 or not base.isascii() or base.isspace():
            continue
        for other in (o["c"] for o in others):
            # A letter taken for a digit or a comma would tear words apart; a digit has its own value.
            if len(other) == 1 and not other.isascii() and (base.isalpha() or not other.isalnum()):
                yield other, base


_TABLE: Final = {other: base.lower() for other, base in _confusables()}
# Capital I, and all that UTS #39 takes for it: they may stand for an i as well as for an l.
_STROKES: Final = frozenset("I|") | {
    o["c"] for shape in "Il|" for o in confusables_data[shape] if len(o["c"]) == 1
} - set("l1")


def empty(character: str) -> bool:
    """Whether it shows nothing: marks, joiners, controls, fillers, half surrogates, tags."""
    if character in _FILLERS or 0xE0000 <= ord(character) <= 0xE0FFF:
        return True
    return unicodedata.category(character) in _EMPTY


@lru_cache(maxsize=65_536)
def plain(character: str) -> str:
    """The character without its presentation (width, style, ligature, accents); case and script stay. May be empty."""
    if character in "\n\r":
        return "\n"
    if character.isspace() or character == _BRAILLE_BLANK:
        return " "
    return "".join(c for c in unicodedata.normalize("NFKD", character) if not empty(c))


@lru_cache(maxsize=65_536)
def skeleton(character: str) -> str:
    """What the character looks like, in lower case: ASCII where it can be taken for that. May be several or none."""
    if character in _BOXED:
        return _BOXED[character]
    parts = plain(character)
    if parts and not parts.isascii() and unicodedata.decimal(character, None) is None:
        known = _known(character)
        if known:
            return known
    return "".join(map(_shape, parts)).replace("\n", " ")


def _shape(part: str) -> str:
    digit = unicodedata.decimal(part, None)
    if part.isascii() or digit is not None:
        return part.lower() if digit is None else str(digit)
    return _known(part) or "".join(_known(c) or c for c in part.casefold())


def _known(character: str) -> str:
    """The letter or sign it may be taken for; the same for both cases of a letter, or capitals would hide a phrase."""
    lowered = character.casefold()
    for form in (lowered, lowered.upper()):
        known = _BY_HAND.get(form) or _TABLE.get(form)
        if known:
            return known
    name = _LATIN.match(unicodedata.name(character, ""))
    return name[1].lower() if name else ""


@lru_cache(maxsize=65_536)
def looks(character: str) -> frozenset[str]:
    """What else the character may be taken for, as its two cases look different: a capital eta is an h, not an n."""
    found = (_TABLE.get(c) for part in plain(character) if not part.isascii() for c in part)
    return frozenset(look for look in found if look)


@lru_cache(maxsize=65_536)
def upright(character: str) -> bool:
    """Whether it is a bare stroke, such as a capital I, which may be read as an i or as an l."""
    return character in _STROKES or unicodedata.normalize("NFKD", character) in _STROKES
