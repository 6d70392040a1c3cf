"""Kinds of personal data that a rule may `detect`: where one may begin, what is proven by well-kept libraries. Pure.

A detector looks only at the characters from the beginning of a candidate to `width` behind it and at the two before it,
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
# First digits of the networks that issue cards, from and to, and how many digits their numbers have.
_ISSUERS: Final[tuple[tuple[str, str, frozenset[int]], ...]] = (
    ("2221", "2720", frozenset({16})),  # Mastercard
    ("300", "305", frozenset(range(14, 20))),  # Diners
    ("34", "34", frozenset({15})),  # American Express
    ("3528", "3589", frozenset(range(16, 20))),  # JCB
    ("36", "36", frozenset(range(14, 20))),
    ("37", "37", frozenset({15})),
    ("38", "39", frozenset(range(14, 20))),
    ("4", "4", frozenset({13, 16, 19})),  # Visa
    ("5018", "5018", frozenset(CARD_LENGTHS)),  # Maestro
    ("5020", "5020", frozenset(CARD_LENGTHS)),
    ("5038", "5038", frozenset(CARD_LENGTHS)),
    ("51", "55", frozenset({16})),
    ("5893", "5893", frozenset(CARD_LENGTHS)),
    ("6011", "6011", frozenset(range(16, 20))),  # Discover
    ("62", "62", frozenset(range(16, 20))),  # UnionPay
    ("6304", "6304", frozenset(CARD_LENGTHS)),
    ("644", "659", frozenset(range(16, 20))),
    ("6759", "6763", frozenset(CARD_LENGTHS)),
)
_GROUPINGS: Final = ([4, 6, 5], [4, 6, 4])
_CARD_RUN: Final = re.compile(r"[0-9]+(?:[ .\-][0-9]+)*")
_DIGITS: Final = re.compile(r"[0-9]+")
_IBAN_HEAD: Final = re.compile(r"(?<![a-z0-9_])[a-z]{2}[0-9]{2}")
_IBAN_REST: Final = re.compile(r"(?: ?[a-z0-9]){11,30}")
_EMAIL: Final = re2.compile(r"[a-z0-9._%+\-]{1,64}@[a-z0-9\-]{1,63}(?:\.[a-z0-9\-]{1,63}){0,3}\.[a-z]{2,24}")
_PHONE_HEAD: Final = re.compile(r"(?<![a-z0-9])\+\(?[0-9]")
_PHONE: Final = re.compile(r"\+\(?[0-9](?:[ ().\-/]{0,3}[0-9]){6,16}")
_PHONE_GROUP: Final = re.compile(r"[0-9]{2,}")

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
    """Payment card numbers (ISO/IEC 7812: known issuer, 13 to 19 digits, Luhn), in one piece or in even groups.

    The decimals of a number are none: floats of 16 digits are common, and one in forty would pass.
    """
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
    if len(groups) > 1 and groups[0][1] - groups[0][0] < 4 and text[groups[0][1]] == " ":
        return 0  # small numbers between blanks are a table
    digits, sizes, found = "", [], 0
    for first, end in groups:
        digits += text[first : min(end, first + CARD_LENGTHS.stop)]
        sizes.append(end - first)
        if len(digits) >= CARD_LENGTHS.stop:
            break
        if len(digits) not in CARD_LENGTHS or not _issued(digits) or not _grouped(sizes, text, groups[0][0]):
            continue
        if luhn.is_valid(digits):
            found = end
    return found


def _issued(digits: str) -> bool:
    return any(low <= digits[: len(low)] <= high and len(digits) in lengths for low, high, lengths in _ISSUERS)


def _grouped(sizes: list[int], text: str, start: int) -> bool:
    """Whether digits are grouped as on a card, or evenly."""
    if len(sizes) == 1:
        return not (text[max(0, start - 1) : start] == "." and text[max(0, start - 2) : start - 1].isdecimal())
    even = sizes[0] <= 4 and all(size == sizes[0] for size in sizes[:-1]) and sizes[-1] <= sizes[0]
    return even or sizes in _GROUPINGS


def ibans(text: str, start: int) -> Spans:
    """International bank account numbers (ISO 13616), with or without blanks."""
    taken = start
    for head in _IBAN_HEAD.finditer(text, start):
        rest = _IBAN_REST.match(text, head.end())
        if head.start() < taken or rest is None:
            continue
        candidate = text[head.start() : rest.end()]
        for end in reversed([m.end() for m in re.finditer(r"\S+", candidate)]):
            if _checks(candidate[:end].replace(" ", "")) and iban.is_valid(candidate[:end]):
                taken = head.start() + end
                yield head.start(), taken
                break


def _checks(number: str) -> bool:
    """Whether the check digits are right (ISO 7064, mod 97): cheap, and wrong for 96 of 97 that are none."""
    return int("".join(str(int(c, 36)) for c in number[4:] + number[:4])) % 97 == 1


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
