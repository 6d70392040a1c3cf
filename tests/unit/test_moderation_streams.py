"""Properties of moderation in pieces: it shows what moderation of the whole text shows, and never part of a match."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import Rule
from streams.moderation import Moderator, StreamModerator
from streams.stage import Views

# Characters that make trouble: letters of the phrases, their doubles in other scripts and styles, marks, blanks, signs
# of the detectors.
LETTERS = "abclIi1|Ɩsｓаа\u0301\u0308\u200b\u00ad\u200f \u00a0\n\t-.+@:/04ﬁﬀßηΗНνΝ\U0001d41a\U0001f170É́K"
PIECES = [
    "ab", "a b", "cab", "ill", "I", "ﬁ", "fil", "4111 1111 1111 1111", "4111111111111111", "a@b.org",
    "+41 44 668 18 00", "DE89 3704 0044 0532 0130 00", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9, "\u200b", "\u0301", "  ", " ", "x", "7",
    "aws secret key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQ\n-----END",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "cabin", "xaab",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(LETTERS, max_size=6), max_size=12).map("".join)
PHRASES = st.sampled_from(["a", "ab", "a b", "aa", "bca", "ill", "fill", "cab in", " a", "fi", "ass", "s-a", "straße"])
REGEXES = st.sampled_from(
    [
        "a+b",
        r"\bab\b",
        "a.{0,3}c",
        "[0-9]{2,4}",
        "b|bc",
        r"(?m)^x",
        r"a\b",
        "ß",
        r"\p{Cyrillic}",
        "[é-ü]",
        r"i\s?l",
        r"\Ba",
        "x$",
        "^x",
        "café",
    ]
)
DETECTS = st.sampled_from(["credit_card", "email", "iban", "phone", "secret"])
ACTIONS = st.sampled_from(["mask", "mask", "flag", "block"])


@st.composite
def rule_sets(draw):
    kinds = draw(st.lists(st.tuples(st.sampled_from(["match", "regex", "detect"]), ACTIONS), min_size=1, max_size=6))
    values = {"match": PHRASES, "regex": REGEXES, "detect": DETECTS}
    return tuple(Rule(id=str(i), action=a, **{kind: draw(values[kind])}) for i, (kind, a) in enumerate(kinds))


def pieces(text, cuts):
    bounds = [0, *sorted(c % (len(text) + 1) for c in cuts), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def streamed(moderator, parts):
    stream = StreamModerator(moderator)
    return "".join(stream.feed(part) for part in parts) + stream.finish(), stream


@settings(max_examples=1500, deadline=None)
@given(rule_sets(), TEXTS, st.lists(st.integers(0, 500), max_size=12))
def test_pieces_show_what_the_whole_shows(rules, text, cuts):
    moderator = Moderator(rules)
    whole = moderator.check(text, "response")
    shown, stream = streamed(moderator, pieces(text, cuts))
    assert (stream.blocked_by is None) == (whole.blocked_by is None)
    if whole.blocked_by is None:
        assert shown == whole.text
        assert {f.rule.id: f.matches for f in stream.found} == {f.rule.id: f.matches for f in whole.found}


@settings(max_examples=500, deadline=None)
@given(rule_sets(), TEXTS, st.lists(st.integers(0, 500), max_size=12))
def test_nothing_of_a_blocked_match_was_shown(rules, text, cuts):
    rules = tuple(r for r in rules if r.action == "block")
    moderator = Moderator(rules)
    hits = moderator.stage("response").hits(Views(text), 0, {}, final=True) if rules else []
    shown, stream = streamed(moderator, pieces(text, cuts))
    if hits:
        assert stream.blocked_by is not None
        # What was shown is the text up to some place before the match that blocked: the first match, or one that was
        # settled before it because it is short and lies within a longer one.
        assert text.startswith(shown) and len(shown) <= max(h.start for h in hits)
        assert len(shown) <= min(h.end for h in hits)
    else:
        assert shown == text
