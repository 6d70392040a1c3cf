"""What a rule may detect: found whole and in pieces, in its own text only, and never slowly."""

from __future__ import annotations

import re
import time

import pytest

from schemas.config import ConfigError, Rule
from streams import credentials
from streams.detectors import DETECTORS
from streams.moderation import MASK, Moderator, StreamModerator

JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c"
PEM = "-----BEGIN {0}PRIVATE KEY-----\nMIIEpAIBAAKCAQEA7\n+abc/def123ABCDEF==\n-----END {0}PRIVATE KEY-----"
# None of these is or was a key of anyone.
SECRETS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ASIAIOSFODNN7EXAMPLE",
    "ghp_" + "aB3dE6gH9" * 4,
    "github_pat_" + "a1B2c3D4e5F6g7H8i9J0k1" + "_" + "a1B2c3D4e5" * 5 + "f6G7h8I9j",
    "glpat-" + "x7Yz9-kLmN3pQrStU4vW",
    "xoxb-123456789012-1234567890123-AbCdEfGhIjKlMnOpQrStUvWx",
    "https://hooks.slack.com/services/T01ABCDEF/B01ABCDEF/abcdefghijklmnopqrstuvwx",
    "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "SG." + "a1B2c3D4e5F6g7H8i9J0k1" + "." + "a1B2c3D4e5F6g7H8i9J0k1a1B2c3D4e5F6g7H8i9J0k",
    "sk-proj-" + "a1B2c3D4e5F6g7H8i9J0" * 3,
    "sk-" + "0123456789abcdef" * 2,
    "AIza" + "SyA1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q",
    "hf_" + "abcdefghijklmnopqABCDEFGHIJKLMNOPQ",
    "npm_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "pypi-AgEIcHlwaS5vcmc" + "a1B2c3D4e5" * 6,
    "sq0csp-" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0-_a",
    "0123456789abcdef0123456789abcdef-us12",
    "MTAyMzQ1Njc4OTAxMjM0NTY3.G1a2B3." + "a1B2c3D4e5F6g7H8i9J0k1L2m3N",
    "AC" + "0123456789abcdef" * 2,
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    JWT,
    PEM.format("RSA "),
    PEM.format(""),
    PEM.format("EC "),
]
NO_SECRETS = [
    "eyJhbGciOiJub3QganNvbg.eyJub3QganNvbg.x",
    "AKIAIOSFODNN7EXAMPL",
    "akiaiosfodnn7example",
    "ghp_short",
    "sk-estimator-doc-link-fitted-with-a-name",
    "sk-learning-is-fun-and-we-like-words",
    "xoxo-hugs-and-kisses",
    "BEGIN PRIVATE KEY is a header",
    "the laws of my password are: 0123456789",
]
PHONES = [
    "+41 44 668 18 00",
    "+1 (650) 253-0000",
    "+49 30 901820",
    "+442083661177",
    "+33 1 42 68 53 00",
    "+81-3-3581-0101",
]
NO_PHONES = ["+1 234 567", "+99 44 668 18 00", "2+2015550123", "+0000000000", "x+41446681800", "041 446 681 800 12"]
CARDS = ["4111 1111 1111 1111", "5500-0055-5555-5559", "378282246310005", "3782 822463 10005", "6011111111111117",
         "4222222222222", "30569309025904", "3530111333300000", "4-1-1-1-1-1-1-1-1-1-1-1-1-1-1-1"]  # fmt: skip
NO_CARDS = ["4111 1111 1111 1112", "0.4111111111111111", "9111111111111111", "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "41111111111111111111", "1.4111111111111111"]  # fmt: skip


def masks(detect: str) -> Moderator:
    return Moderator((Rule(id=detect, detect=detect, action="mask"),))


def check_whole_and_in_pieces(moderator: Moderator, text: str, shown: str) -> None:
    assert moderator.check(text, "response").text == shown
    for size in (1, 2, 5, 16, 61):
        stream = StreamModerator(moderator)
        assert "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish() == shown
    for cut in range(len(text)):
        stream = StreamModerator(moderator)
        assert stream.feed(text[:cut]) + stream.feed(text[cut:]) + stream.finish() == shown, cut


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s[:24])
def test_a_secret_is_masked_whole_and_in_pieces(secret):
    check_whole_and_in_pieces(masks("secret"), f"use {secret}\nplease", f"use {MASK}\nplease")


@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s[:24])
def test_a_secret_is_found_between_marks_that_show_nothing(secret):
    hidden = "\u200b".join(secret).replace("\n\u200b", "\n")
    assert masks("secret").check(f"use {hidden}\nplease", "request").text == f"use {MASK}\nplease"


@pytest.mark.parametrize("text", NO_SECRETS)
def test_what_only_begins_like_a_secret_is_none(text):
    check_whole_and_in_pieces(masks("secret"), f"see {text} here", f"see {text} here")


@pytest.mark.parametrize("number", PHONES)
def test_a_phone_number_is_masked(number):
    check_whole_and_in_pieces(masks("phone"), f"call {number}, or 2023", f"call {MASK}, or 2023")


@pytest.mark.parametrize("text", NO_PHONES)
def test_other_numbers_are_no_phone_numbers(text):
    check_whole_and_in_pieces(masks("phone"), f"see {text}!", f"see {text}!")


@pytest.mark.parametrize("number", CARDS)
def test_a_card_number_is_masked(number):
    check_whole_and_in_pieces(masks("credit_card"), f"pay {number} now", f"pay {MASK} now")


@pytest.mark.parametrize("text", NO_CARDS)
def test_other_numbers_are_no_cards(text):
    check_whole_and_in_pieces(masks("credit_card"), f"see {text} now", f"see {text} now")


def test_digits_of_other_scripts_count():
    assert masks("credit_card").check("٤١١١ ١١١١ ١١١١ ١١١١", "request").text == MASK


def test_two_account_numbers_in_a_row_are_two():
    text = "DE89 3704 0044 0532 0130 00 GB82 WEST 1234 5698 7654 32 end"
    check_whole_and_in_pieces(masks("iban"), text, f"{MASK} {MASK} end")


@pytest.mark.parametrize(
    "head", [JWT, "-----BEGIN RSA PRIVATE KEY-----\nMIIE", "xoxb-123456789012-"], ids=["token", "key", "slack"]
)
def test_a_secret_beyond_all_bounds_is_masked_to_its_end(head):
    moderator, text = masks("secret"), f"use {head}{'a1' * credentials.LONGEST} please"
    assert moderator.check(text, "response").text == f"use {MASK} please"
    for size in (7, 1000, 5000):
        stream = StreamModerator(moderator)
        shown = "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish()
        assert shown == f"use {MASK} please"


def test_a_long_token_is_flagged_once_and_shown():
    text = f"use {JWT}{'a1' * credentials.LONGEST} please"
    stream = StreamModerator(Moderator((Rule(id="s", detect="secret", action="flag"),)))
    assert "".join(stream.feed(text[i : i + 500]) for i in range(0, len(text), 500)) + stream.finish() == text
    assert [f.matches for f in stream.found] == [1]


def test_every_pattern_of_the_library_runs_on_re2():
    assert len(credentials.formats()) >= 20
    for form in credentials.formats():
        assert list(form.find("nothing here", 0)) == []


def test_a_kind_that_nobody_knows_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigError, match=re.escape("known: credit_card, email, iban, phone, secret")):
        masks("password")


HOSTILE = ["4" * 50_000, "4 " * 25_000, "a@" * 25_000, "+1" * 25_000, "+1 2 3 4 5 6 7 8 " * 3_000, "de89" * 12_500,
           "de89 " * 10_000, "eyJ" * 17_000, "aws key " * 6_000, "xoxb-1-" * 7_000, "BEGIN RSA PRIVATE KEY" * 2_400,
           "\u0301" * 50_000, "a.b-c_d@" * 6_000, "4111-" * 10_000, "ﷺ" * 20_000]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=lambda t: t[:12])
def test_a_hostile_text_takes_linear_time(text):
    moderator = Moderator(tuple(Rule(id=d, detect=d, action="flag") for d in (*DETECTORS, "secret")))
    moderator.check("warm up 4111 1111 1111 1111", "request")
    took = []
    for part in (text[: len(text) // 4], text):
        start = time.process_time()
        moderator.check(part, "request")
        took.append(time.process_time() - start)
    # Four times the text, four times the time; a quadratic search takes sixteen times, and whole seconds.
    assert took[1] < 0.2 or took[1] < 9 * took[0]
