"""What of an answer may leave: moderation and the upstream's key, whole and in chunks."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Rule
from streams.moderation import Moderator
from workers.assemble import Assembly
from workers.screen import KeyFilter, Screen

KEY = "sk-sk-secret"
BLOCK = Rule("b", match="bad phrase", message="No.")
MASK = Rule("m", match="hide me", action="mask")


def chunks(text: str, *cuts: int) -> list[str]:
    bounds = [0, *sorted(cuts), len(text)]
    return [text[a:b] for a, b in pairwise(bounds)]


def delta(content: str, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, **choice}]}


def run(screen: Screen, pieces: list[dict[str, Any]]) -> dict[str, Any]:
    assembly = Assembly()
    for piece in pieces:
        assembly.add(screen.piece(piece))
    assembly.add(screen.finish())
    return assembly.body({})


@given(st.text("sk-ecrt x", max_size=40), st.lists(st.integers(0, 60), max_size=8))
def test_the_key_is_never_shown_however_it_is_cut(around: str, cuts: list[int]) -> None:
    text = around + KEY + around
    key, shown = KeyFilter(KEY), ""
    for piece in chunks(text, *[c for c in cuts if c < len(text)]):
        shown += key.feed(piece)
        assert KEY not in shown
    shown += key.finish()
    assert KEY not in shown and shown == text.replace(KEY, "***")


@given(st.lists(st.integers(0, 30), max_size=8))
def test_chunks_and_whole_are_masked_alike(cuts: list[int]) -> None:
    text = "please hide me, sk-sk-secret and sk- too"
    moderator = Moderator((MASK,))
    body = run(Screen(moderator, KEY), [delta(p) for p in chunks(text, *cuts)])
    whole = Screen(moderator, KEY).whole({"choices": [{"index": 0, "message": {"content": text}}]})
    assert body["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"]
    assert whole["choices"][0]["message"]["content"] == "please [masked], *** and sk- too"


def test_a_blocked_chunk_shows_nothing_of_the_phrase() -> None:
    screen = Screen(Moderator((BLOCK,)))
    shown = screen.piece(delta("a ba"))["choices"][0]["delta"]["content"]
    assert shown == "a " and screen.blocked_by is None
    assert screen.piece(delta("d phrase")) == {} and screen.blocked_by == BLOCK
    assert screen.findings() == ({"rule": "b", "action": "block", "matches": 1},)


def test_every_text_of_every_choice_is_looked_at() -> None:
    places: list[dict[str, Any]] = [
        {"message": {"content": "bad phrase"}},
        {"message": {"content": None, "reasoning_content": "bad phrase"}},
        {"message": {"tool_calls": [{"function": {"name": "f", "arguments": '{"x": "bad phrase"}'}}]}},
        {"message": {"content": [{"type": "text", "text": "bad phrase"}]}},
        {"text": "bad phrase"},
        {"message": {"unheard_of": {"deep": ["bad phrase"]}}},
    ]
    for place in places:
        screen = Screen(Moderator((BLOCK,)))
        screen.whole({"choices": [{"index": 0, "message": {"content": "ok"}}, {"index": 1, **place}]})
        assert screen.blocked_by == BLOCK, place


def test_arguments_of_tools_are_joined_by_index_and_moderated() -> None:
    def call(index: int, arguments: str, **rest: Any) -> dict[str, Any]:
        calls = [{"index": index, **rest, "function": {"arguments": arguments}}]
        return {"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}

    pieces = [call(0, '{"a": "hi', id="c0"), call(1, "{}", id="c1"), call(0, 'de me"}')]
    screen = Screen(Moderator((MASK,)))
    calls = run(screen, pieces)["choices"][0]["message"]["tool_calls"]
    assert [c["function"]["arguments"] for c in calls] == ['{"a": "[masked]"}', "{}"]
    assert [c["id"] for c in calls] == ["c0", "c1"] and all("index" not in c for c in calls)


def test_log_probabilities_leave_with_their_text_or_not_at_all() -> None:
    def piece(text: str) -> dict[str, Any]:
        return delta(text, logprobs={"content": [{"token": text, "logprob": -1.0}]})

    screen = Screen(Moderator((MASK,)))
    held = screen.piece(piece("hide"))["choices"][0]
    assert held["delta"]["content"] == "" and held["logprobs"] is None
    free = screen.piece(piece(" you"))["choices"][0]
    assert free["delta"]["content"] == "hide you" and len(free["logprobs"]["content"]) == 2
    assert screen.piece(piece(" hide me"))["choices"][0]["logprobs"] is None
    whole = {"index": 0, "message": {"content": "hide me"}, "logprobs": {"content": [{"token": "hide me"}]}}
    assert Screen(Moderator((MASK,))).whole({"choices": [whole]})["choices"][0]["logprobs"] is None


def test_what_was_held_comes_at_the_end_as_one_choice_with_its_log_probabilities() -> None:
    screen = Screen(Moderator((MASK,)))
    screen.piece(delta("hide", logprobs={"content": [{"token": "hide", "logprob": -1.0}]}))
    (choice,) = screen.finish()["choices"]
    assert choice["delta"] == {"content": "hide"} and len(choice["logprobs"]["content"]) == 1


def test_without_rules_and_key_nothing_is_touched() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "x"}}], "usage": {}}
    assert Screen(None).whole(body) is body and Screen(None).piece(body) is body


def test_the_key_is_hidden_at_the_top_level_too() -> None:
    body = Screen(None, KEY).whole({"choices": [], "note": f"used {KEY}", KEY: [KEY]})
    assert body == {"choices": [], "note": "used ***", "***": ["***"]}
