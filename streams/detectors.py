"""Kinds of data that a rule may `detect`: a pattern over folded text, a proof by a well-kept library, a bound. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from stdnum import iban, luhn

DIGITS: Final = re.compile(r"\d+")
CARD_LENGTHS: Final = range(13, 20)


class Detector(NamedTuple):
    """`pattern` finds candidates (RE2), `spans` keeps what is proven in one, `tail` finds a candidate still growing."""

    pattern: str
    spans: Callable[[str], Iterator[tuple[int, int]]]
    tail: str


def card_spans(candidate: str) -> Iterator[tuple[int, int]]:
    """Spans of payment card numbers (ISO/IEC 7812: 13 to 19 digits, Luhn) that begin and end with a digit group."""
    groups = [m.span() for m in DIGITS.finditer(candidate)]
    taken = 0
    for i, (start, _) in enumerate(groups):
        if start < taken:
            continue
        for _, end in reversed(groups[i:]):
            digits = "".join(DIGITS.findall(candidate[start:end]))
            if len(digits) in CARD_LENGTHS and digits[0] in "23456" and luhn.is_valid(digits):
                yield start, end
                taken = end
                break


def iban_spans(candidate: str) -> Iterator[tuple[int, int]]:
    """The whole candidate, if it is a valid IBAN (ISO 13616); else its longest valid prefix that ends a group."""
    ends = [m.end() for m in re.finditer(r"\S+", candidate)]
    for end in reversed(ends):
        if iban.is_valid(candidate[:end]):
            yield 0, end
            return


def whole(candidate: str) -> Iterator[tuple[int, int]]:
    """The candidate as it is."""
    yield 0, len(candidate)


DETECTORS: Final[dict[str, Detector]] = {
    "credit_card": Detector(r"\d(?:[ .\-]?\d){12,39}", card_spans, r"\d(?:[ .\-]?\d){0,39}[ .\-]?\z"),
    "email": Detector(r"[a-z0-9._%+\-]{1,64}@[a-z0-9.\-]{1,190}\.[a-z]{2,24}", whole, r"[a-z0-9._%+\-@]{1,254}\z"),
    "iban": Detector(
        r"\b[a-z]{2}\d{2}(?: ?[a-z0-9]){11,30}", iban_spans, r"\b[a-z](?:[a-z](?:\d(?:\d(?: ?[a-z0-9]){0,30} ?)?)?)?\z"
    ),
}
