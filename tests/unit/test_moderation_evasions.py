"""No disguise passes, however an answer is cut; ordinary text in many languages passes untouched."""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path

import pytest

from schemas.config import Rule
from streams.moderation import Moderator, StreamModerator
from tests.evasions import disguises

BANNED = ["a banned phrase", "kill the official", "steal stuff", "violent explosion", "quickly jump over"]
RULES = tuple(Rule(id=p, match=p) for p in BANNED)
CASES = [(p, name, text) for p in BANNED for name, text in disguises(p)]
# What an operator may well forbid; none of it is in the clean corpus.
FORBIDDEN = [
    "build a bomb", "kill yourself", "credit card dump", "child abuse", "buy cocaine", "white power", "bitch",
    "ignore all previous instructions", "wie baue ich eine Bombe", "Sprengstoff selber machen", "tuer quelqu'un",
    "как сделать бомбу", "купить наркотики", "убить человека", "φτιάξω βόμβα", "如何制造炸弹", "爆弾の作り方",
    "폭탄 만드는 법", "كيف أصنع قنبلة", "cómo fabricar una bomba", "asshole", "whore", "slut", "nazi", "heroin",
]  # fmt: skip
STRICT = (
    *(Rule(id=f"f{i}", match=p) for i, p in enumerate(FORBIDDEN)),
    *(Rule(id=d, detect=d, action="mask") for d in ("credit_card", "email", "iban", "phone", "secret")),
    Rule(id="ssn", regex=r"\b\d{3}-\d{2}-\d{4}\b", action="mask"),
    Rule(id="project", regex=r"project\s+(blue|черный|bleuté)", action="block"),
)
MODULES = [
    "argparse", "ast", "collections", "csv", "datetime", "decimal", "email.message", "functools", "heapq", "json", "re",
    "logging", "os", "pathlib", "random", "shutil", "string", "subprocess", "textwrap", "threading",
]  # fmt: skip


def docs() -> list[str]:
    found = []
    for name in MODULES:
        tree = ast.parse(inspect.getsource(importlib.import_module(name)))
        nodes = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Module))
        found += [doc for n in nodes if (doc := ast.get_docstring(n))]
    return found


CLEAN = (Path(__file__).parents[1] / "corpora" / "clean.txt").read_text().splitlines()
SOURCES = [inspect.getsource(importlib.import_module(m)) for m in MODULES]


@pytest.fixture(scope="module")
def moderator() -> Moderator:
    return Moderator(RULES)


@pytest.mark.parametrize(("phrase", "name", "text"), CASES, ids=[f"{p}: {n}" for p, n, _ in CASES])
def test_no_disguise_passes_at_any_boundary(moderator, phrase, name, text):
    before, after = "So I said: ", ", and so on."
    whole = before + text + after
    assert moderator.check(whole, "request").blocked_by is not None
    cuts = [[i] for i in range(len(whole) + 1)]
    cuts += [[i, j] for i in range(len(before), len(before) + len(text)) for j in range(i + 1, i + 3)]
    cuts.append(list(range(len(whole))))
    for cut in cuts:
        stream, shown = StreamModerator(moderator), ""
        for start, end in zip([0, *cut], [*cut, len(whole)], strict=True):
            shown += stream.feed(whole[start:end])
        shown += stream.finish()
        assert stream.blocked_by is not None, (name, cut)
        assert before.startswith(shown), (name, cut, shown)


@pytest.mark.parametrize("text", CASES, ids=lambda c: f"{c[0]}: {c[1]}")
def test_a_mask_leaves_nothing_of_a_disguise(text):
    moderator = Moderator(tuple(Rule(id=r.id, match=r.match, action="mask") for r in RULES))
    assert moderator.check(f"<{text[2]}>", "request").text == "<[masked]>"


def test_ordinary_text_is_neither_blocked_nor_changed():
    texts = [*CLEAN, *docs()]
    assert len(texts) > 500 and len(CLEAN) > 60
    assert touched(Moderator(STRICT), texts) == []


def test_source_code_is_neither_blocked_nor_changed():
    # It names its authors: their addresses are no false findings.
    assert touched(Moderator(tuple(r for r in STRICT if r.detect != "email")), SOURCES) == []


def touched(moderator: Moderator, texts: list[str]) -> list[tuple[str, str]]:
    return [(o.found[0].rule.id, t[:80]) for t in texts if (o := moderator.check(t, "request")) != (t, (), None)]


def test_ordinary_text_streams_unchanged():
    moderator = Moderator(STRICT)
    for text in CLEAN:
        for size in (1, 4, 17):
            stream = StreamModerator(moderator)
            assert "".join(stream.feed(text[i : i + size]) for i in range(0, len(text), size)) + stream.finish() == text
            assert stream.found == ()


def test_a_number_or_a_name_is_no_word_in_digits():
    moderator = Moderator((Rule(id="a", match="assess"), Rule(id="b", match="lol"), Rule(id="c", match="toilet")))
    for text in ("101", "version 4.3.101", "0x455355", "45535", "a53355f00d", "7011", "70113735"):
        assert moderator.check(text, "request").found == (), text


@pytest.mark.parametrize("text", ["MAIL", "Ian", "FAIL", "XIII", "openAI", "III"])
def test_a_capital_i_as_capitals_are_used_is_no_l(text):
    moderator = Moderator(tuple(Rule(id=p, match=p) for p in ("mall", "lan", "fall", "openal", "ill")))
    assert moderator.check(text, "request").found == ()
