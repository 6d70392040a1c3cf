"""Moderation of whole texts and of streams, at every boundary."""

import pytest

from schemas.config import ConfigError, Rule
from streams.folding import skeleton
from streams.moderation import MASK, Moderator, StreamModerator

BAN = Rule(id="p", match="a banned phrase")
CARD = Rule(id="card", detect="credit_card", action="mask")
RULES = (BAN, CARD, Rule(id="e", detect="email", action="flag"), Rule(id="i", detect="iban", action="mask"))
EVASIONS = [
    "this is A BANNED PHRASE!",
    "a  banned\n\tphrase",
    "а bаnnеd phrаsе",  # Cyrillic look-alikes
    "ａ ｂａｎｎｅｄ ｐｈｒａｓｅ",  # full width
    "a ban​ned phr‌ase",  # zero-width
    "á bánnèd phrâse",
    "\U0001d41a \U0001d41b\U0001d41a\U0001d427\U0001d427\U0001d41e\U0001d41d phrase",  # mathematical bold
    "a ban­ned phrase",  # soft hyphen
]
CLEAN = ["a band phrase", "an unbanned word", "banned a phrase", "", "   ", "日本語のテキスト", "5 + 5 = 10"]


@pytest.mark.parametrize("text", EVASIONS)
def test_no_disguise_passes_whole_or_in_pieces_of_any_size(text):
    moderator = Moderator(RULES)
    outcome = moderator.check(text, "response")
    assert outcome.blocked_by == BAN
    for size in range(1, len(text) + 1):
        stream = StreamModerator(moderator)
        shown = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish()
        assert stream.blocked_by == BAN, size
        assert "ned" not in skeleton(shown).text, size


@pytest.mark.parametrize("text", CLEAN)
def test_clean_text_passes_unchanged(text):
    moderator = Moderator(RULES)
    assert moderator.check(text, "request") == (text, (), None)
    for size in range(1, len(text) + 1):
        stream = StreamModerator(moderator)
        assert "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish() == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay 4111 1111 1111 1111 now", f"pay {MASK} now"),
        ("pay 4111-1111-1111-1111, 5500005555555559", f"pay {MASK}, {MASK}"),
        ("order 12 4111111111111111", f"order 12 {MASK}"),
        ("not a card: 4111 1111 1111 1112", "not a card: 4111 1111 1111 1112"),
        ("to DE89 3704 0044 0532 0130 00 please", f"to {MASK} please"),
        ("４１１１１１１１１１１１１１１１", MASK),
    ],
)
def test_personal_data_is_masked_in_place_whole_or_streamed(text, shown):
    moderator = Moderator(RULES)
    assert moderator.check(text, "response").text == shown
    for size in range(1, len(text) + 1):
        stream = StreamModerator(moderator)
        assert "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish() == shown


def test_a_stream_counts_each_match_once():
    moderator = Moderator(RULES)
    text = "a@b.org, c@d.org and 4111111111111111 end"
    for size in (1, 3, 7, 100):
        stream = StreamModerator(moderator)
        for i in range(0, len(text), size):
            stream.feed(text[i : i + size])
        stream.finish()
        assert {f.rule.id: f.matches for f in stream.found} == {"e": 2, "card": 1}


def test_a_stream_without_a_possible_match_is_shown_at_once():
    stream = StreamModerator(Moderator((BAN,)))
    assert stream.feed("hello") == "hello"
    assert stream.feed(" world, a") == " world, "  # "a" may begin the phrase


def test_a_rule_looks_only_at_its_stages():
    moderator = Moderator((Rule(id="x", match="secret", stages=("response",)),))
    assert moderator.check("secret", "request").blocked_by is None
    assert moderator.check("secret", "response").blocked_by is not None
    assert moderator.applies("response") and not moderator.applies("request")


@pytest.mark.parametrize(
    "rule",
    [Rule(id="x", regex="("), Rule(id="x", regex="a*"), Rule(id="x", detect="nothing"), Rule(id="x", match="\u200b")],
)
def test_a_rule_that_cannot_be_is_refused_by_name(rule):
    with pytest.raises(ConfigError) as caught:
        Moderator((rule,))
    assert caught.value.where == "x"
