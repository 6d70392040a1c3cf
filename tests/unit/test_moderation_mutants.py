"""Planted faults in moderation: the corpora and the comparison of pieces with the whole must see each of them."""

from __future__ import annotations

import random

import msgspec
import pytest

from schemas.config import Rule
from streams import credentials, detectors, folding, lookalikes, moderation, phrases, stage
from streams.folding import Folded
from streams.moderation import Moderator, StreamModerator
from tests.evasions import disguises
from tests.unit.test_moderation_detectors import NO_CARDS, NO_SECRETS, SECRETS
from tests.unit.test_moderation_streams import LETTERS, PIECES, pieces, streamed

BAN = "kill the official"
RULES = [
    *(Rule(id=m, match=m, action=a) for m in ("ab", "a b", "fill", "bca") for a in ("mask", "flag", "block")),
    *(
        Rule(id=r, regex=r, action=a)
        for r in (r"\bab\b", "a.{0,3}c", r"(?m)^x", "[0-9]{2,4}")
        for a in ("mask", "block")
    ),
    *(Rule(id=d, detect=d, action=a) for d in (*detectors.DETECTORS, "secret") for a in ("mask", "flag", "block")),
]


def nothing_hides(seed: int) -> None:
    moderator = Moderator((Rule(id="p", match=BAN),))
    chance = random.Random(seed)
    for _, text in chance.sample(list(disguises(BAN)), 25):
        assert moderator.check(text, "request").blocked_by is not None
        cut = chance.randrange(len(text))
        shown, stream = streamed(moderator, [text[:cut], text[cut:]])
        assert stream.blocked_by is not None and shown == ""


def only_the_match_is_masked() -> None:
    moderator = Moderator((Rule(id="p", match=BAN, action="mask"),))
    for text in (BAN, BAN.upper(), BAN + "\u0301", "\u200b".join(BAN)):
        assert moderator.check(f"<{text}>", "request").text == "<[masked]>"


def nothing_unproven_is_masked() -> None:
    for detect, texts in (("credit_card", NO_CARDS), ("secret", NO_SECRETS)):
        moderator = Moderator((Rule(id="d", detect=detect, action="mask"),))
        assert all(moderator.check(text, "request").text == text for text in texts)
        assert detect != "secret" or all(moderator.check(s, "request").text == "[masked]" for s in SECRETS)


def pieces_agree_with_the_whole(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(40):
        moderator = Moderator(tuple({r.id: r for r in chance.sample(RULES, 3)}.values()))
        parts = [chance.choice(PIECES) if chance.random() < 0.6 else chance.choice(LETTERS) for _ in range(10)]
        text = "".join(parts)
        whole = moderator.check(text, "response")
        cuts = range(len(text)) if chance.random() < 0.5 else chance.sample(range(len(text) + 1), min(len(text), 8))
        shown, stream = streamed(moderator, pieces(text, cuts))
        assert (stream.blocked_by is None) == (whole.blocked_by is None)
        if whole.blocked_by is None:
            assert shown == whole.text
            assert {f.rule.id: f.matches for f in stream.found} == {f.rule.id: f.matches for f in whole.found}


def seen(seed: int) -> bool:
    try:
        nothing_hides(seed)
        only_the_match_is_masked()
        nothing_unproven_is_masked()
        pieces_agree_with_the_whole(seed)
    except AssertionError:
        return True
    return False


def zero_width_marks_count(m):
    m.setattr(lookalikes, "empty", lambda c: False)


def other_scripts_look_different(m):
    m.setattr(lookalikes, "_known", lambda c: "")


def digits_are_no_letters(m):
    m.setattr(phrases, "_LEET", {})


def strokes_are_what_they_are(m):
    m.setattr(phrases, "_stroke", lambda *a: False)


def a_phrase_is_held_one_short(m):
    real = phrases.Phrases.open_from
    m.setattr(phrases.Phrases, "open_from", lambda self, view: min(len(view.text), real(self, view) + 1))


def a_regex_is_held_one_short(m):
    real = stage.width
    m.setattr(stage, "width", lambda regex: real(regex) - 1)


def what_grows_is_not_held(m):
    real = stage.Side.__init__
    m.setattr(stage.Side, "__init__", lambda self, kinds, reach, tails, first: real(self, kinds, reach, [], first))


def each_piece_is_looked_at_alone(m):
    real = StreamModerator._keep

    def keep(self, text, cut, shown, settled):
        real(self, text, cut, shown, settled)
        self._held, self._settled, self._shown = "", 0, 0

    m.setattr(StreamModerator, "_keep", keep)


def what_went_before_is_forgotten(m):
    m.setattr(moderation, "CONTEXT", 0)


def what_is_done_is_found_again(m):
    real = StreamModerator._keep

    def keep(self, *a):
        real(self, *a)
        self._done = {}

    m.setattr(StreamModerator, "_keep", keep)


def a_mask_is_one_short(m):
    real = Folded.span
    m.setattr(Folded, "span", lambda self, a, b: (real(self, a, b)[0], max(a + 1, real(self, a, b)[1] - 1)))


def marks_behind_a_match_stay(m):
    m.setattr(Folded, "span", lambda self, a, b: (self.origin(a), self.origin(b - 1) + 1))


def a_block_is_a_flag(m):
    def weak(self, rules):
        real(self, tuple(msgspec.structs.replace(r, action="flag") if r.action == "block" else r for r in rules))

    real = Moderator.__init__
    m.setattr(Moderator, "__init__", weak)


def a_stream_never_blocks(m):
    real = StreamModerator._rule
    m.setattr(
        StreamModerator,
        "_rule",
        lambda self, hit: msgspec.structs.replace(r, action="flag") if (r := real(self, hit)).action == "block" else r,
    )


def cards_are_not_proven(m):
    m.setattr(detectors.luhn, "is_valid", lambda digits: True)


def tokens_are_not_proven(m):
    m.setattr(
        credentials.Format,
        "find",
        lambda self, t, s: (x.span() for x in credentials._compiled(self.pattern).finditer(t, s)),
    )


def case_does_not_count_in_keys(m):
    real = folding.plain
    m.setattr(folding, "plain", lambda text: real(text)._replace(text=real(text).text.lower()))


MUTANTS = [
    zero_width_marks_count, other_scripts_look_different, digits_are_no_letters, strokes_are_what_they_are,
    a_phrase_is_held_one_short, a_regex_is_held_one_short, what_grows_is_not_held, each_piece_is_looked_at_alone,
    what_went_before_is_forgotten, what_is_done_is_found_again, a_mask_is_one_short, marks_behind_a_match_stay,
    a_block_is_a_flag, a_stream_never_blocks, cards_are_not_proven, tokens_are_not_proven, case_does_not_count_in_keys,
]  # fmt: skip


@pytest.fixture
def forgetful(monkeypatch):
    """Faults in single characters show only where none is remembered, and must not be remembered afterwards."""

    def forget():
        lookalikes.plain.cache_clear()
        lookalikes.skeleton.cache_clear()
        folding._SKELETON.clear()
        folding._PLAIN.clear()

    forget()
    with monkeypatch.context() as patch:
        yield patch, forget
    forget()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_planted_fault_is_seen(mutant, forgetful):
    patch, forget = forgetful
    assert not seen(0)
    mutant(patch)
    forget()
    assert any(seen(seed) for seed in range(8))
