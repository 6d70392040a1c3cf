"""The rules of one stage, ready to run over whole texts and over pieces of one. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final, NamedTuple

import re2

from schemas.config import ConfigError, Rule
from streams import credentials, folding, lookalikes
from streams.detectors import DETECTORS
from streams.folding import Folded
from streams.patterns import PatternError, Patterns, options, width
from streams.phrases import Phrase, Phrases

SECRET: Final = "secret"
# Of a regex, what matches many characters at once: such a one sees characters as they are written.
_CLASSES: Final = re.compile(r"\[|\\[pPx]")

Finder = Callable[[str, int], Iterator[tuple[int, int]]]


class Hit(NamedTuple):
    """A match in the original text, of rule number `rule`.

    `by` names what found it: matches by one finder never overlap. `settled` says that no more text can change it,
    `open` that it is a key too long to be proven, which goes on.
    """

    start: int
    end: int
    rule: int
    by: int
    settled: bool
    open: bool = False


class Kind(NamedTuple):
    """One pattern of a rule in a view, and what finds its matches where it is present; a regex finds them itself.

    Case counts in all but regexes: their view may keep it.
    """

    rule: int
    source: str
    find: Finder | None


class Views:
    """The views of a text, each made when first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.skeleton = folding.skeleton(text)
        self._plain: Folded | None = None

    @property
    def plain(self) -> Folded:
        """The view in which case counts."""
        if self._plain is None:
            self._plain = folding.plain(self.text)
        return self._plain


class Side:
    """The patterns that run over one view, and how far back from its end a match may still begin."""

    def __init__(self, kinds: list[Kind], reach: int, tails: list[tuple[int, str]], first: int) -> None:
        self._kinds = kinds
        self._first = first
        self._reach = reach
        self._tails = [(most, re2.compile(tail, options())) for most, tail in tails]
        self._patterns = Patterns([(kind.source, kind.find is not None) for kind in kinds])

    @property
    def used(self) -> bool:
        """Whether there is any pattern."""
        return bool(self._kinds)

    def hits(self, view: Folded, start: int, done: Mapping[int, int]) -> Iterator[Hit]:
        """Matches that begin at original index `start` or later, and not before `done` for their finder."""
        for i in self._patterns.present(view.text):
            kind, by = self._kinds[i], self._first + i
            find = kind.find or partial(self._patterns.find, i)
            at: int | None = view.index_at(max(start, done.get(by, 0)))
            while at is not None:
                spans, at = find(view.text, at), None
                for first, end in spans:
                    long = end == len(view.text) and end - first > credentials.LONGEST
                    hit = Hit(*view.span(first, end), kind.rule, by, False, long)
                    yield hit
                    if view.index_at(hit.end) > end:  # it ends within what one original character became
                        at = view.index_at(hit.end)
                        break

    def open_from(self, view: Folded) -> int:
        """First index of the view from which a match may still change when more text comes."""
        length = len(view.text)
        start = max(0, length - self._reach)
        for most, tail in self._tails:
            before = max(0, length - most - 1)
            match = tail.search(view.text[before:])
            if match is not None:
                start = min(start, max(length - most, before + match.start()))
        return start


class Stage:
    """The rules of one stage. Raises ConfigError naming the rule that cannot be."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        phrases = [Phrase(_phrase(rule), i) for i, rule in enumerate(rules) if rule.match]
        self._phrases = Phrases(phrases)
        seen: list[Kind] = []
        plain: list[Kind] = []
        reach = {False: 0, True: 0}
        tails: dict[str, tuple[int, str]] = {}
        for i, rule in enumerate(rules):
            if rule.regex:
                as_is, source = _regex(rule.regex)
                (plain if as_is else seen).append(Kind(i, source, None))
                reach[as_is] = max(reach[as_is], width(source))
            elif rule.detect == SECRET:
                plain += [Kind(i, one.pattern, one.find) for one in credentials.formats()]
            elif rule.detect:
                detector = DETECTORS.get(rule.detect)
                if detector is None:
                    known = ", ".join(sorted([*DETECTORS, SECRET]))
                    raise ConfigError(rule.id, f"cannot detect {rule.detect!r}; known: {known}")
                seen.append(Kind(i, detector.gate, detector.find))
                tails[rule.detect] = (detector.width, detector.tail)
        keys = list(credentials.TAILS) if any(rule.detect == SECRET for rule in rules) else []
        self._seen = self._side(seen, reach[False], list(tails.values()), len(rules))
        self._plain = self._side(plain, reach[True], keys, len(rules) + len(seen))

    def _side(self, kinds: list[Kind], reach: int, tails: list[tuple[int, str]], first: int) -> Side:
        try:
            return Side(kinds, reach, tails, first)
        except PatternError as error:
            raise ConfigError(self.rules[kinds[error.index].rule].id, str(error)) from None

    def hits(self, views: Views, start: int, done: Mapping[int, int], *, final: bool) -> list[Hit]:
        """Matches that begin at original index `start` or later, not over those `done` before, by their beginning."""
        found: list[Hit] = []
        ends = dict(done)
        for rule, first, end in self._phrases.find(views.text, views.skeleton, final=final):
            span = views.skeleton.span(first, end)
            if span[0] >= max(start, ends.get(rule, 0)):
                ends[rule] = span[1]
                found.append(Hit(*span, rule, rule, True))
        if self._seen.used:
            found += self._seen.hits(views.skeleton, start, done)
        if self._plain.used:
            found += self._plain.hits(views.plain, start, done)
        return sorted(found)

    def open_from(self, views: Views) -> int:
        """First original index from which a match may still begin, grow or change when more text comes."""
        seen = self._phrases.open_from(views.skeleton)
        if self._seen.used:
            seen = min(seen, self._seen.open_from(views.skeleton))
        start = views.skeleton.origin(seen)
        if not self._plain.used:
            return start
        return min(start, views.plain.origin(self._plain.open_from(views.plain)))


def _phrase(rule: Rule) -> str:
    seen = folding.skeleton(rule.match).text
    if not seen.strip():
        raise ConfigError(rule.id, "the phrase to match shows nothing")
    return seen


def _regex(regex: str) -> tuple[bool, str]:
    """Whether a regex runs over the plain view, and the regex with its letters as they are in its view."""
    if regex.isascii():
        return bool(re.search(r"\\[pPx]", regex)), regex
    as_is = bool(_CLASSES.search(regex))
    fold = lookalikes.plain if as_is else lookalikes.skeleton
    out = []
    for character in regex:
        folded = character if character.isascii() else fold(character)
        out.append(folded if len(folded) == 1 or as_is else f"(?:{re2.escape(folded)})" if folded else "")
    return as_is, "".join(out)
