"""Disguises of a phrase that a reader sees through, by Unicode's names of characters, not by the product's tables."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

# Letters of other scripts that are drawn like Latin ones.
SCRIPTS = {
    "cyrillic": dict(zip("abcehijkmnoprstxydqw", "аьсеһіјкмпоргѕтхуԁԛԝ", strict=True)),
    "capital cyrillic": dict(zip("abcehijkmopstxy", "АВСЕНІЈКМОРЅТХУ", strict=True)),
    "greek": dict(zip("abceijkmnoptuvxyz", "αβϲειϳκΜηορτυνχγΖ", strict=True)),
    "capital greek": dict(zip("abehikmnoptxyz", "ΑΒΕΗΙΚΜΝΟΡΤΧΥΖ", strict=True)),
    "armenian": dict(zip("ghnouql", "ցհոօսզӏ", strict=True)),
    "strokes": dict(zip("abdehilotu", "ⱥƀđɇħɨłøŧʉ", strict=True)),
    "leet": dict(zip("aeost", "43057", strict=True)),
    "signs": dict(zip("asi", "@$!", strict=True)),
}
STYLES = [
    "FULLWIDTH LATIN SMALL LETTER {}", "FULLWIDTH LATIN CAPITAL LETTER {}", "MATHEMATICAL BOLD SMALL {}",
    "MATHEMATICAL ITALIC SMALL {}", "MATHEMATICAL BOLD FRAKTUR SMALL {}", "MATHEMATICAL BOLD SCRIPT CAPITAL {}",
    "MATHEMATICAL DOUBLE-STRUCK SMALL {}", "MATHEMATICAL SANS-SERIF CAPITAL {}", "MATHEMATICAL MONOSPACE SMALL {}",
    "CIRCLED LATIN SMALL LETTER {}", "CIRCLED LATIN CAPITAL LETTER {}", "NEGATIVE CIRCLED LATIN CAPITAL LETTER {}",
    "SQUARED LATIN CAPITAL LETTER {}", "NEGATIVE SQUARED LATIN CAPITAL LETTER {}", "MODIFIER LETTER SMALL {}",
    "PARENTHESIZED LATIN SMALL LETTER {}", "REGIONAL INDICATOR SYMBOL LETTER {}", "LATIN LETTER SMALL CAPITAL {}",
    "LATIN SMALL LETTER {} WITH DOT BELOW", "LATIN CAPITAL LETTER {} WITH ACUTE", "LATIN SMALL LETTER {} WITH TILDE",
]  # fmt: skip
# What shows nothing between two letters.
NOTHING = {
    "zero width space": "\u200b", "joiner": "\u200d", "non-joiner": "\u200c", "word joiner": "\u2060",
    "soft hyphen": "\u00ad", "byte order mark": "\ufeff", "left to right": "\u200e", "right to left": "\u200f",
    "isolate": "\u2068\u2069", "override": "\u202d\u202c", "variation": "\ufe0f", "grapheme joiner": "\u034f",
    "filler": "\u3164", "acute": "\u0301", "many marks": "\u0301\u0323\u0336\u20dd", "tag": "\U000e0061",
    "null": "\x00", "escape": "\x1b", "mongolian": "\u180e",
}  # fmt: skip
BLANKS = {
    "no-break": "\u00a0", "two": "  ", "new line": "\n", "windows": "\r\n", "tab": "\t", "em": "\u2003",
    "hair": "\u200a", "ideographic": "\u3000", "line separator": "\u2028", "next line": "\x85", "figure": "\u2007",
    "many": " \t\n \u00a0 ", "with nothing": " \u200b ", "braille": "\u2800", "ogham": "\u1680",
}  # fmt: skip


def _styled(letter: str, style: str) -> str:
    try:
        return unicodedata.lookup(style.format(letter.upper()))
    except KeyError:
        return letter


def disguises(phrase: str) -> Iterator[tuple[str, str]]:
    """Names and disguised forms of a phrase of small Latin letters and single blanks."""
    yield "as it is", phrase
    yield "capitals", phrase.upper()
    yield "title", phrase.title()
    yield "alternating", "".join(c.upper() if i % 2 else c for i, c in enumerate(phrase))
    yield "decomposed accents", unicodedata.normalize("NFD", phrase.translate(str.maketrans("aeiou", "áèîöü")))
    yield "composed accents", phrase.translate(str.maketrans("aeiounc", "ãéïõůñç"))
    yield (
        "ligatures",
        phrase.replace("ffi", "ﬃ").replace("fi", "ﬁ").replace("fl", "ﬂ").replace("ff", "ﬀ").replace("st", "ﬆ"),
    )
    yield (
        "capital I for l",
        "".join("I" if c == "l" and i and phrase[i - 1] != " " else c for i, c in enumerate(phrase)),
    )
    yield "bar for l", phrase.replace("l", "|").replace("i", "ǀ")
    for name, letters in SCRIPTS.items():
        yield name, "".join(letters.get(c, c) for c in phrase)
        yield f"half {name}", "".join(letters.get(c, c) if i % 2 else c for i, c in enumerate(phrase))
    for style in STYLES:
        yield style, "".join(_styled(c, style) if c.isalpha() else c for c in phrase)
    for name, mark in NOTHING.items():
        yield f"{name} everywhere", mark.join(phrase)
        yield f"{name} once", phrase[:3] + mark + phrase[3:]
    for name, blank in BLANKS.items():
        yield f"{name} as blank", phrase.replace(" ", blank)
