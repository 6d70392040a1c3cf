"""Moderation: what rules say of a text, whole or as it streams. Pure.

It fails closed: on an error the caller delivers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import ClassVar, Final, NamedTuple

from schemas.config import ConfigError, Rule
from streams import lookalikes
from streams.credentials import more
from streams.folding import plain
from streams.stage import Hit, Stage, Views

MASK: Final = "[masked]"
# Rule sets kept compiled in a process. One of 5,000 regexes takes about 25 MB.
KEPT: Final = 32
# Characters kept of what was shown already: what a pattern may look at before a match.
CONTEXT: Final = 2
# Characters held back from a stream. The reach of the rules is far less: what comes here shows nothing by the thousand.
MOST_HELD: Final = 16_384


class Found(NamedTuple):
    """A rule that matched, and how often."""

    rule: Rule
    matches: int


class Outcome(NamedTuple):
    """What may be shown (nothing, if a rule forbids it all), what was found, and the first rule that forbids it all."""

    text: str
    found: tuple[Found, ...]
    blocked_by: Rule | None


class ModerationError(RuntimeError):
    """A check that cannot run: the text is not delivered."""


class HeldTooMuch(ModerationError):
    """A text that would have to be held back beyond all bounds."""


class Moderator:
    """A rule set, compiled. Raises ConfigError naming the rule that cannot be."""

    _kept: ClassVar[dict[str, Moderator]] = {}

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        request, response = (tuple(r for r in rules if s in r.stages) for s in ("request", "response"))
        first = Stage(request)
        self._stages = {"request": first, "response": first if request == response else Stage(response)}

    @classmethod
    def of(cls, rules: tuple[Rule, ...], rules_hash: str) -> Moderator:
        """The moderator of a rule set by its content hash, compiled once in a process; Unusable if it cannot be."""
        kept = cls._kept.get(rules_hash)
        if kept is None:
            try:
                kept = cls(rules)
            except ConfigError as fault:
                kept = Unusable(fault)
            cls._kept[rules_hash] = kept
            while len(cls._kept) > KEPT:
                del cls._kept[next(iter(cls._kept))]
        return kept

    def applies(self, stage: str) -> bool:
        """Whether any rule looks at this stage."""
        return bool(self._stages[stage].rules)

    def check(self, text: str, stage: str) -> Outcome:
        """Moderate a whole text at `stage` (request | response)."""
        rules = self._stages[stage]
        hits = rules.hits(Views(text), 0, {}, final=True) if rules.rules else []
        if not hits:
            return Outcome(text, (), None)
        blocked = min((h.rule for h in hits if rules.rules[h.rule].action == "block"), default=None)
        found = tally(rules, hits)
        if blocked is not None:
            return Outcome("", found, rules.rules[blocked])
        return Outcome(mask(text, rules, hits, 0, len(text))[0], found, None)

    def stage(self, stage: str) -> Stage:
        """The compiled rules of a stage, for StreamModerator."""
        return self._stages[stage]


class Unusable(Moderator):
    """Stands for a rule set that cannot be compiled: it applies to every stage, and no check of it ever runs."""

    def __init__(self, fault: ConfigError) -> None:
        super().__init__(())
        self.fault = fault

    def applies(self, stage: str) -> bool:
        """It does, so that nothing passes unchecked."""
        return True

    def check(self, text: str, stage: str) -> Outcome:
        """Raises ModerationError."""
        raise ModerationError(f"the rules cannot be used: {self.fault}")

    def stage(self, stage: str) -> Stage:
        """Raises ModerationError."""
        raise ModerationError(f"the rules cannot be used: {self.fault}")


def tally(stage: Stage, hits: Iterable[Hit]) -> tuple[Found, ...]:
    """Matches per rule, in the order of the rules."""
    counts: dict[int, int] = {}
    for hit in hits:
        counts[hit.rule] = counts.get(hit.rule, 0) + 1
    return tuple(Found(stage.rules[rule], counts[rule]) for rule in sorted(counts))


def mask(text: str, stage: Stage, hits: Iterable[Hit], at: int, end: int) -> tuple[str, int]:
    """The text from `at` to `end` with the matches of masking rules replaced, and where the last of both ends.

    `hits` are by their beginning. One that begins before `at` continues what is masked already.
    """
    out = []
    for hit in hits:
        if stage.rules[hit.rule].action != "mask" or hit.end <= at:
            continue
        out += [text[at : max(at, hit.start)], MASK if hit.start >= at else ""]
        at = hit.end
    return "".join([*out, text[at:end]]), max(at, end)


class StreamModerator:
    """Moderates a text that arrives in pieces: shows what no later piece can make part of a match.

    What it shows in all is what Moderator.check makes of the whole text, for matches of at most REACH (regexes) and
    LONGEST (keys) characters. It holds back at most the longest phrase, the widest regex (at most REACH), and for
    each kind of data that may be growing at the end its width, counted in characters that show; never more than
    MOST_HELD characters of any kind, beyond which it raises HeldTooMuch.
    """

    def __init__(self, moderator: Moderator, stage: str = "response") -> None:
        self._stage = moderator.stage(stage)
        # The text from a little before the first character that is not settled; where that is; where the unshown
        # begins; where matches that reach beyond it end, by finder. All are indexes into the text held.
        self._held = ""
        self._settled = 0
        self._shown = 0
        self._done: dict[int, int] = {}
        self._swallows = False
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
        if not self._stage.rules:
            return piece
        text = self._held + (self._swallow(piece) if self._swallows else piece)
        views = Views(text)
        hits = self._stage.hits(views, self._settled, self._done, final=final)
        cut = len(text) if final else max(self._settled, self._stage.open_from(views))
        if len(text) - cut > MOST_HELD:
            raise HeldTooMuch(f"{len(text) - cut} characters would have to be held back")
        blocking = [h for h in hits if (h.settled or h.start < cut) and self._rule(h).action == "block"]
        if blocking:
            self.blocked_by = self._stage.rules[min(h.rule for h in blocking)]
            self._count(blocking)
            self._held = ""
            return ""
        settled = [h for h in hits if h.start < cut]
        shown, at = text[self._shown : cut], max(cut, self._shown)
        if settled:
            self._count(settled)
            shown, at = mask(text, self._stage, settled, self._shown, cut)
            self._swallows |= any(h.open and self._rule(h).action == "mask" for h in settled)
        self._keep(text, cut, at, settled)
        return shown

    def _rule(self, hit: Hit) -> Rule:
        return self._stage.rules[hit.rule]

    def _keep(self, text: str, cut: int, shown: int, settled: list[Hit]) -> None:
        """Hold the text from CONTEXT characters that show before `cut`: words and numbers begin after others."""
        context = text[max(0, cut - CONTEXT) : cut]
        if not context.isprintable() or not context.isascii():
            visible = (text[i] for i in range(cut - 1, -1, -1) if lookalikes.plain(text[i]))
            context = "".join(islice(visible, CONTEXT))[::-1]
        moved = cut - len(context)
        ends = {by: end for by, end in self._done.items() if end > cut} if self._done else {}
        for hit in settled:
            if hit.end > cut:
                ends[hit.by] = max(hit.end, ends.get(hit.by, 0))
        self._held = context + text[cut:]
        self._settled, self._shown = len(context), shown - moved
        self._done = {by: end - moved for by, end in ends.items()}

    def _swallow(self, piece: str) -> str:
        """The piece without what continues a key that is masked already."""
        view = plain(piece)
        end = more(view.text, 0)
        self._swallows = end == len(view.text)
        return piece[view.origin(end) :]

    def _count(self, hits: Iterable[Hit]) -> None:
        for rule, matches in tally(self._stage, hits):
            before = self._counts.get(rule.id)
            self._counts[rule.id] = Found(rule, matches + (before.matches if before else 0))
