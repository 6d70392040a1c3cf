"""Properties of moderation in pieces: it shows what moderation of the whole text shows, and never part of a match."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.config import Rule
from streams import folding
from streams.credentials import LONGEST
from streams.moderation import MASK, MOST_HELD, HeldTooMuch, Moderator, StreamModerator
from streams.patterns import REACH
from streams.stage import Views

# Characters that make trouble: letters of the phrases, their doubles in other scripts and styles, marks, blanks, signs
# of the detectors.
LETTERS = "abclIi1|Ɩsｓаа\u0301\u0308\u200b\u00ad\u200f \u00a0\n\t-.+@:/04ﬁﬀßηΗНνΝ\U0001d41a\U0001f170É́K"
PIECES = [
    "ab", "a b", "cab", "ill", "I", "ﬁ", "fil", "4111 1111 1111 1111", "4111111111111111", "a@b.org",
    "+41 44 668 18 00", "DE89 3704 0044 0532 0130 00", "AKIAIOSFODNN7EXAMPLE", "ghp_" + "a1B2" * 9,
    "\u200b", "\u0301", "  ", " ", "x", "7", "0.", "5500 0055 5555 5559", "3782 822463 10005",
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


def held_at_most(moderator, text):
    """The most characters held back while `text` comes one by one."""
    stream, shown, most = StreamModerator(moderator), "", 0
    for i, character in enumerate(text, 1):
        shown += stream.feed(character)
        most = max(most, i - len(shown))
    assert shown + stream.finish() == text
    return most


@pytest.mark.parametrize(
    ("rule", "most"),
    [
        (Rule(id="x", match="a rather long phrase that never comes"), 37),
        (Rule(id="x", regex="[0-9]{3}-[0-9]{2}-[0-9]{4}"), 11),
        (Rule(id="x", regex="q.*q"), REACH),
        (Rule(id="x", detect="credit_card"), 39),
        (Rule(id="x", detect="iban"), 65),
        (Rule(id="x", detect="phone"), 68),
        (Rule(id="x", detect="email"), 346),
        (Rule(id="x", detect="secret"), LONGEST),
    ],
)
def test_what_is_held_back_is_bounded(rule, most):
    moderator = Moderator((rule,))
    words = "a rather long phrase that never 12 34 5 ends " * 40
    for text in (
        words,
        "1234567890 " * 500,
        "ab12 cd" * 200,
        "a" * 6000,
        "+1 234 " * 500,
        "eyJ" + "a" * 6000,
        "AKIA " * 500,
    ):
        assert held_at_most(moderator, text) <= most


def test_an_ordinary_answer_is_hardly_held_back():
    rules = (Rule(id="p", match="a banned phrase"), *(Rule(id=d, detect=d) for d in ("credit_card", "iban", "phone")))
    text = "The quick brown fox jumps over the lazy dog, 12 times in 2023. " * 20
    assert held_at_most(Moderator(rules), text) <= 20


def test_what_shows_nothing_by_the_thousand_is_refused_not_collected():
    stream = StreamModerator(Moderator((Rule(id="x", match="ab"),)))
    assert stream.feed("a") == ""
    with pytest.raises(HeldTooMuch):
        for _ in range(MOST_HELD // 1000 + 2):
            stream.feed("\u200b" * 1000)


def test_after_a_block_nothing_is_shown():
    stream = StreamModerator(Moderator((Rule(id="x", match="ab"),)))
    assert stream.feed("xab then") == "" and stream.blocked_by is not None
    assert stream.feed("more") == "" and stream.finish() == ""


def test_a_mark_behind_a_match_goes_with_it():
    stream = StreamModerator(Moderator((Rule(id="x", match="ab", action="mask"),)))
    assert [stream.feed(p) for p in ("xa", "b", "\u0301", "\u200b", "y")] == ["x", "", "", "", f"{MASK}y"]


def test_a_match_over_another_is_masked_once():
    moderator = Moderator((Rule(id="x", match="abc", action="mask"), Rule(id="y", match="cde", action="mask")))
    assert moderator.check("<abcde>", "request").text == f"<{MASK}>"
    assert streamed(moderator, list("<abcde>"))[0] == f"<{MASK}>"


@given(TEXTS)
def test_views_lead_back_to_the_text(text):
    for view in (folding.skeleton(text), folding.plain(text)):
        origins = [view.origin(i) for i in range(len(view.text))]
        assert origins == sorted(origins) and all(0 <= o < len(text) for o in origins)
        assert view.origin(len(view.text)) == len(text)
        for i in range(len(text) + 1):
            first = view.index_at(i)
            assert all(o >= i for o in origins[first:]) and all(o < i for o in origins[:first])


@given(TEXTS, TEXTS)
def test_a_view_of_a_view_is_itself(a, b):
    for fold in (folding.skeleton, folding.plain):
        once = fold(a).text
        assert fold(once).text == once
        assert "  " not in folding.skeleton(a + b).text
