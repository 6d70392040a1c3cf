"""Moderation: what rules say of a text, whole or as it streams. Pure.

It fails closed: on an error the caller delivers nothing. Patterns run on RE2 over folded text: linear time whatever a
rule's author wrote.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import re2

from schemas.config import ConfigError, Rule
from streams.detectors import DETECTORS, Detector
from streams.folding import Folded, fold

MASK: Final = "[masked]"
# A regex rule may match at most this much; so much is held back from a stream where such a rule applies.
REGEX_REACH: Final = 256


class Found(NamedTuple):
    """A rule that matched, and how often."""

    rule: Rule
    matches: int


class Outcome(NamedTuple):
    """What may be shown, what was found, and the first rule that forbids it all."""

    text: str
    found: tuple[Found, ...]
    blocked_by: Rule | None


class Span(NamedTuple):
    """A match in the original text."""

    start: int
    end: int
    rule: Rule


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 28
    return options


class _Pattern:
    """One compiled rule."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.detector: Detector | None = None
        self.literal = ""
        if rule.match:
            self.literal = fold(rule.match).text
            source = re2.escape(self.literal)
        elif rule.detect:
            if rule.detect not in DETECTORS:
                raise ConfigError(rule.id, f"cannot detect {rule.detect!r}; known: {', '.join(sorted(DETECTORS))}")
            self.detector = DETECTORS[rule.detect]
            source = self.detector.pattern
        else:
            source = f"(?i:{rule.regex})"
        if rule.match and not self.literal:
            raise ConfigError(rule.id, "the phrase to match shows nothing")
        try:
            self.compiled = re2.compile(source, _options())
        except re2.error as error:
            raise ConfigError(rule.id, f"the pattern does not compile: {error}") from None
        if self.compiled.search("") is not None:
            raise ConfigError(rule.id, "the pattern matches the empty text, so it would match everything")
        self.source = source

    def spans(self, folded: Folded) -> list[Span]:
        """Where it matches, in the original text."""
        out = []
        for match in self.compiled.finditer(folded.text):
            start, end = match.span()
            parts = self.detector.spans(folded.text[start:end]) if self.detector else ((0, end - start),)
            out += [Span(*folded.span(start + a, start + b), self.rule) for a, b in parts]
        return out


class _Stage:
    """The rules of one stage, ready to run."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.patterns = [_Pattern(rule) for rule in rules]
        self.set = re2.Set.SearchSet(_options())
        for pattern in self.patterns:
            self.set.Add(pattern.source)
        if self.patterns:
            self.set.Compile()
        literals = [p.literal for p in self.patterns if p.literal]
        self.prefixes = {text[:n] for text in literals for n in range(1, len(text))}
        self.longest = max((len(text) for text in literals), default=1)
        self.tails = [re2.compile(p.detector.tail, _options()) for p in self.patterns if p.detector]
        self.reach = REGEX_REACH if any(p.rule.regex for p in self.patterns) else 0

    def spans(self, folded: Folded) -> list[Span]:
        """All matches, by rule."""
        if not self.patterns:
            return []
        return [span for i in sorted(self.set.Match(folded.text) or ()) for span in self.patterns[i].spans(folded)]

    def open_from(self, folded: Folded) -> int:
        """First folded index from which a match may still grow when more text comes."""
        text = folded.text
        start = max(0, len(text) - self.reach)
        for length in range(min(self.longest - 1, len(text)), 0, -1):
            if text[-length:] in self.prefixes:
                start = min(start, len(text) - length) if self.reach else len(text) - length
                break
        else:
            start = start if self.reach else len(text)
        for tail in self.tails:
            match = tail.search(text)
            if match is not None:
                start = min(start, match.start())
        return start


class Moderator:
    """A rule set, compiled. Raises ConfigError naming the rule that cannot be."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self._stages = {s: _Stage(r for r in rules if s in r.stages) for s in ("request", "response")}

    def applies(self, stage: str) -> bool:
        """Whether any rule looks at this stage."""
        return bool(self._stages[stage].patterns)

    def check(self, text: str, stage: str) -> Outcome:
        """Moderate a whole text at `stage` (request | response)."""
        spans = self._stages[stage].spans(fold(text))
        return _outcome(text, spans) if spans else Outcome(text, (), None)

    def stage(self, stage: str) -> _Stage:
        """The compiled rules of a stage, for StreamModerator."""
        return self._stages[stage]


def _outcome(text: str, spans: list[Span]) -> Outcome:
    blocked = next((s.rule for s in spans if s.rule.action == "block"), None)
    return Outcome(mask(text, spans), tally(spans), blocked)


def tally(spans: Iterable[Span]) -> tuple[Found, ...]:
    """Matches per rule, in the order first seen."""
    counts: dict[str, Found] = {}
    for span in spans:
        before = counts.get(span.rule.id)
        counts[span.rule.id] = Found(span.rule, 1 + (before.matches if before else 0))
    return tuple(counts.values())


def mask(text: str, spans: Iterable[Span]) -> str:
    """The text with the spans of masking rules replaced."""
    out, at = [], 0
    for span in sorted((s for s in spans if s.rule.action == "mask"), key=lambda s: (s.start, -s.end)):
        if span.end <= at:
            continue
        out += [text[at : max(at, span.start)], MASK if span.start >= at else ""]
        at = span.end
    return "".join([*out, text[at:]])


class StreamModerator:
    """Moderates a text that arrives in pieces: shows what no later piece can make part of a match."""

    def __init__(self, moderator: Moderator, stage: str = "response") -> None:
        self._stage = moderator.stage(stage)
        self._held = ""
        self._counts: dict[str, Found] = {}
        self.blocked_by: Rule | None = None

    @property
    def found(self) -> tuple[Found, ...]:
        """What matched so far, in what was shown or in what stopped it."""
        return tuple(self._counts.values())

    def feed(self, piece: str) -> str:
        """Take a piece, return what may be shown now; empty for ever once a rule has blocked."""
        return self._advance(piece, final=False)

    def finish(self) -> str:
        """The rest, at the end of the text."""
        return self._advance("", final=True)

    def _advance(self, piece: str, *, final: bool) -> str:
        if self.blocked_by is not None:
            return ""
        text = self._held + piece
        if not self._stage.patterns or not text:
            self._held = ""
            return text
        folded = fold(text)
        spans = self._stage.spans(folded)
        blocking = [s for s in spans if s.rule.action == "block"]
        if blocking:
            self.blocked_by = blocking[0].rule
            self._held = ""
            self._count(blocking)
            return ""
        cut = len(text) if final else folded.origin(self._stage.open_from(folded), len(text))
        for span in sorted(spans, key=lambda s: -s.start):
            if span.start < cut < span.end:
                cut = span.start
        done = [s for s in spans if s.end <= cut]
        self._count(done)
        self._held = text[cut:]
        return mask(text[:cut], done)

    def _count(self, spans: Iterable[Span]) -> None:
        for rule, matches in tally(spans):
            before = self._counts.get(rule.id)
            self._counts[rule.id] = Found(rule, matches + (before.matches if before else 0))
