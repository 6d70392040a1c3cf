"""Phrases in the skeleton of a text: thousands of them in one pass (Aho-Corasick), whatever their disguise. Pure.

Some disguises are ambiguous: a bare stroke may be an i or an l, a 3 may be an e, a capital eta looks like an h and
a small one like an n. Candidates are found in a coarser text where those are one letter, and proven letter by letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import ahocorasick

from streams.folding import Folded
from streams.lookalikes import looks, upright

_COARSE: Final = str.maketrans(dict(zip("i1|!0@4375$hvym", "lllloaaetssnnuu", strict=True)))
# Letters that a digit or a sign may stand for inside a word.
_LEET: Final = {"1": "il", "!": "i", "0": "o", "@": "a", "4": "a", "3": "e", "7": "t", "5": "s", "$": "s"}
# Shorter words look like numbers and names by chance ("101", "4th", "3d").
_LEET_LETTERS: Final = 6
_HEAD: Final = 3


class Phrase(NamedTuple):
    """A phrase as it looks, and the number of the rule it belongs to."""

    seen: str
    rule: int

    def proven(self, text: str, view: Folded, start: int) -> bool:
        """Whether the phrase stands at `start` of the view: letter by letter, or in a disguise that a reader undoes."""
        end = start + len(self.seen)
        there = view.text[start:end]
        if there == self.seen:
            return True
        spelled = 0
        for i, (wanted, found) in enumerate(zip(self.seen, there, strict=True), start):
            if wanted == found or (wanted in "il" and _stroke(text, view, start, i)):
                continue
            if wanted in looks(text[view.origin(i)]):
                continue
            if wanted not in _LEET.get(found, ""):
                return False
            spelled += 1
        letters = sum(map(str.isalpha, self.seen))
        if spelled and (letters < _LEET_LETTERS or spelled * 3 > letters * 2):
            return False
        return not spelled or not (view.text[start - 1 : start].isalnum() or view.text[end : end + 1].isalnum())


def _stroke(text: str, view: Folded, start: int, index: int) -> bool:
    """Whether a stroke stands there, and not a capital I as capitals are used: at the beginning, or among capitals."""
    if text[view.origin(index)] != "I":
        return upright(text[view.origin(index)])
    while index >= start and text[view.origin(index)] == "I":
        index -= 1
    return index >= 0 and text[view.origin(index)].islower()


class Phrases:
    """Phrases, ready to be found."""

    def __init__(self, phrases: list[Phrase]) -> None:
        self._by_shape: dict[str, list[Phrase]] = {}
        for phrase in phrases:
            self._by_shape.setdefault(phrase.seen.translate(_COARSE), []).append(phrase)
        self.longest = max(map(len, self._by_shape), default=0)
        self._heads = {shape[:_HEAD] for shape in self._by_shape}
        self._found: Any = ahocorasick.Automaton()
        for shape, same in self._by_shape.items():
            self._found.add_word(shape, same)
        if self._by_shape:
            self._found.make_automaton()

    def find(self, text: str, view: Folded, *, final: bool) -> Iterator[tuple[int, int, int]]:
        """Rule, start and end in the view of every occurrence, by their ends. One at the very end that is
        spelled in signs waits for the end of its word."""
        if not self._by_shape:
            return
        for last, same in self._found.iter(view.text.translate(_COARSE)):
            for phrase in same:
                start = last + 1 - len(phrase.seen)
                if last + 1 == len(view.text) and not final and view.text[start:] != phrase.seen:
                    continue
                if phrase.proven(text, view, start):
                    yield phrase.rule, start, last + 1

    def open_from(self, view: Folded) -> int:
        """First index of the view from which a phrase begins that has come to the end, or may yet come to its end."""
        coarse = view.text[max(0, len(view.text) - self.longest) :].translate(_COARSE)
        before, whole = len(view.text) - len(coarse), len(coarse) - _HEAD + 1
        for start in range(whole):
            if coarse[start : start + _HEAD] in self._heads and self._found.match(coarse[start:]):
                return before + start
        for start in range(max(0, whole), len(coarse)):
            if self._found.match(coarse[start:]):
                return before + start
        return len(view.text)
