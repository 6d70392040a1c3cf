"""From tokens to text, piece by piece, cut at the first stop text. Pure; the tokenizer is an argument."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

# What a tokenizer writes for bytes that are no character yet.
UNFINISHED: Final = "\ufffd"
# A character that is not yet whole has at most three bytes; more of them at the end will never be one.
NEVER: Final = 4 * UNFINISHED


class Detokenizer:
    """The text of one answer. `decode` gives the text of some tokens, without special ones.

    Some tokenizers drop the blank before the first token of a text, so new tokens are always decoded behind those just
    before them. A text that may become a stop text is held back.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, stops
        self._tokens: list[int] = []
        # Tokens before `_known` are in the text already; those from `_behind` on are decoded with the next ones.
        self._behind = self._known = 0
        self._held = ""
        self.stopped = False

    def feed(self, tokens: Sequence[int]) -> str:
        """Take tokens; the text that may be shown now. Sets `stopped` at a stop text; then there is nothing more."""
        self._tokens += tokens
        text = self._decode(self._tokens[self._behind :])
        if self.stopped or (text.endswith(UNFINISHED) and not text.endswith(NEVER)):
            return ""
        return self._show(text)

    def finish(self) -> str:
        """The rest, at the end of the answer."""
        shown = "" if self.stopped else self._show(self._decode(self._tokens[self._behind :]))
        rest, self._held = ("" if self.stopped else self._held), ""
        return shown + rest

    def _show(self, text: str) -> str:
        self._held += text[len(self._decode(self._tokens[self._behind : self._known])) :]
        self._behind, self._known = self._known, len(self._tokens)
        ends = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            return self._held[: min(ends)]
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        shown = self._held[: len(self._held) - keep]
        self._held = self._held[len(shown) :]
        return shown


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` may be the beginning of `stop`."""
    most = min(len(text), len(stop) - 1)
    return next((n for n in range(most, 0, -1) if text.endswith(stop[:n])), 0)
