"""Regular expressions over a view of a text, thousands at once. Pure.

All run on RE2: linear time whatever their author wrote. Which of them can match at all is decided by one search for the
fixed pieces of text in them (FilteredRE2): a common automaton of thousands of patterns builds new states for every new
text, a millisecond for 200 characters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any, Final

import re2

# A rule's regex may match at most so much if it does not say less itself; so much of a stream is held back for it.
REACH: Final = 256
# RE2 says nothing when it cannot search for the pieces: a pattern that must always be found shows that it can.
_PROBE: Final = "\x02probe\x03"


def options(*, cased: bool = True) -> Any:
    """Settings of every pattern: quiet, and memory for large ones; whether case counts."""
    found = re2.Options()
    found.log_errors = False
    found.max_mem = 1 << 26
    found.case_sensitive = cased
    return found


class PatternError(ValueError):
    """A pattern that cannot be used; `index` says which."""

    def __init__(self, index: int, what: str) -> None:
        super().__init__(what)
        self.index = index


class Patterns:
    """Patterns compiled together, each with whether case counts. Raises PatternError for the first that cannot be."""

    def __init__(self, sources: list[tuple[str, bool]]) -> None:
        self._filter = re2.Filter()
        self._compiled: list[Any] = []
        settings = {cased: options(cased=cased) for cased in (False, True)}
        for i, (source, cased) in enumerate(sources):
            try:
                self._filter.Add(source, settings[cased])
            except re2.error:
                raise PatternError(i, f"the pattern does not compile: {_reason(source)}") from None
            self._compiled.append(self._filter.re(i))
        if not sources:
            return
        self._filter.Add(_PROBE, settings[True])
        self._filter.Compile()
        if self._filter.Match(_PROBE) is None:
            raise PatternError(0, "too many patterns in one set")
        empty = self._filter.Match("")
        if empty:
            raise PatternError(min(empty), "the pattern matches the empty text, so it would match everything")

    def present(self, text: str) -> list[int]:
        """Numbers of the patterns that match somewhere in `text`, in order."""
        return sorted(self._filter.Match(text) or ()) if self._compiled else []

    def find(self, index: int, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Spans of the matches of one pattern that begin at `start` or later, none over another."""
        for match in self._compiled[index].finditer(text, start):
            if match.end() > match.start():
                yield match.span()


def _reason(source: str) -> str:
    try:
        re2.compile(source, options())
    except re2.error as error:
        reason = error.args[0]
        return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
    return "unknown reason"


def width(regex: str) -> int:
    """The most characters that a regex matches, at most REACH."""
    if "{," in regex:
        return REACH  # to Python a repetition, to RE2 plain text
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = re._parser.parse(regex)  # type: ignore[attr-defined]
    except (re.error, RecursionError, OverflowError):
        return REACH  # RE2 knows constructs that Python does not
    return min(REACH, int(parsed.getwidth()[1]))
