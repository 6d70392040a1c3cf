"""Kinds of personal data that a rule may `detect`: where one may begin, what is proven by well-kept libraries. Pure.

A detector looks only at the characters from the beginning of a candidate to `width` behind it and at the one before it,
so that a text which arrives in pieces gives the same matches as the whole one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import phonenumbers
import re2
from stdnum import iban, luhn

CARD_LENGTHS: Final = range(13, 20)
_CARD_RUN: Final = re.compile(r"[0-9]+(?:[ .\-][0-9]+)*")
_DIGITS: Final = re.compile(r"[0-9]+")
_IBAN_HEAD: Final = re.compile(r"(?<![a-z0-9_])[a-z]{2}[0-9]{2}")
_IBAN_REST: Final = re.compile(r"(?: ?[a-z0-9]){11,30}")
_EMAIL: Final = re2.compile(r"[a-z0-9._%+\-]{1,64}@[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63}){0,3}\.[a-z]{2,24}")
_PHONE_HEAD: Final = re.compile(r"(?<![a-z0-9])\+\(?[0-9]")
_PHONE: Final = re.compile(r"\+\(?[0-9](?:[ ().\-/]{0,3}[0-9]){6,16}")
_PHONE_GROUP: Final = re.compile(r"[0-9]+")

Spans = Iterator[tuple[int, int]]


class Detector(NamedTuple):
    """A kind of data in the skeleton of a text.

    `gate` is an RE2 pattern found wherever one may be; `find(text, start)` gives the spans of those that begin at
    `start` or later; `tail` is an RE2 pattern of what may still become one at the end of the text; `width` is the most
    characters that one spans, and how far behind its beginning `find` looks.
    """

    gate: str
    find: Callable[[str, int], Spans]
    tail: str
    width: int


def cards(text: str, start: int) -> Spans:
    """Payment card numbers (ISO/IEC 7812: 13 to 19 digits, Luhn) that begin and end with a group of digits."""
    while start and start < len(text) and text[start - 1].isdecimal() and text[start].isdecimal():
        start += 1  # inside a group no number begins
    for run in _CARD_RUN.finditer(text, start):
        groups = [m.span() for m in _DIGITS.finditer(text, *run.span())]
        taken = 0
        for i, (first, _) in enumerate(groups):
            if first < taken:
                continue
            end = _card_end(text, groups[i : i + CARD_LENGTHS.stop])
            if end:
                yield first, end
                taken = end


def _card_end(text: str, groups: list[tuple[int, int]]) -> int:
    """End of the longest card number that begins with the first group; 0 if there is none."""
    digits, found = "", 0
    for first, end in groups:
        digits += text[first : min(end, first + CARD_LENGTHS.stop)]
        if len(digits) >= CARD_LENGTHS.stop:
            break
        if len(digits) in CARD_LENGTHS and digits[0] in "23456" and luhn.is_valid(digits):
            found = end
    return found


def ibans(text: str, start: int) -> Spans:
    """International bank account numbers (ISO 13616), with or without blanks."""
    taken = start
    for head in _IBAN_HEAD.finditer(text, start):
        rest = _IBAN_REST.match(text, head.end())
        if head.start() < taken or rest is None:
            continue
        candidate = text[head.start() : rest.end()]
        for end in reversed([m.end() for m in re.finditer(r"\S+", candidate)]):
            if iban.is_valid(candidate[:end]):
                taken = head.start() + end
                yield head.start(), taken
                break


def emails(text: str, start: int) -> Spans:
    """E-mail addresses, of at most five labels behind the @."""
    for match in _EMAIL.finditer(text, start):
        yield match.span()


def phones(text: str, start: int) -> Spans:
    """Phone numbers in international form (+ and country code) that libphonenumber knows as valid."""
    taken = start
    for head in _PHONE_HEAD.finditer(text, start):
        match = _PHONE.match(text, head.start())
        if match is None or head.start() < taken:
            continue
        for end in reversed([m.end() for m in _PHONE_GROUP.finditer(text, *match.span())]):
            if _is_phone(text[head.start() : end]):
                taken = end
                yield head.start(), end
                break


def _is_phone(text: str) -> bool:
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(text, None))
    except phonenumbers.NumberParseException:
        return False


DETECTORS: Final[dict[str, Detector]] = {
    # 19 digits, a separator between every two, and one more character that shows where the last group ends.
    "credit_card": Detector(r"[0-9](?:[ .\-]?[0-9]){12}", cards, r"[0-9](?:[ .\-]?[0-9])*[ .\-]?\z", 39),
    "email": Detector(r"[a-z0-9._%+\-]@[a-z0-9\-]", emails, r"[a-z0-9._%+\-@]+\z", 64 + 1 + 4 * 64 + 25),
    "iban": Detector(
        r"[a-z]{2}[0-9]{2}(?: ?[a-z0-9]){11}", ibans, r"\b[a-z](?:[a-z](?:[0-9](?:[0-9](?: ?[a-z0-9])* ?)?)?)?\z", 65
    ),
    "phone": Detector(r"\+\(?[0-9](?:[ ().\-/]{0,3}[0-9]){6}", phones, r"\+[0-9 ().\-/]*\z", 68),
}
