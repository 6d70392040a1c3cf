"""What is asked of an engine that samples by itself, and how its tokens become text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines import Job
from workers.engines.detokenizer import Detokenizer
from workers.engines.sampling import MOST_STOPS, Sampling, sampling_of
from workers.outcome import Fault


def job(endpoint: str = "/v1/chat/completions", most: int = 0, **body: Any) -> Job:
    return Job("r", endpoint, "m", body, True, 0, most)


def test_what_a_caller_names_is_taken_and_the_rest_has_openais_defaults() -> None:
    assert sampling_of(job()) == Sampling(0, 1.0, 1.0, 0, ())
    asked = job(most=9, max_tokens=20, temperature=0, top_p=0.5, top_k=7, stop="x", seed=1, n=1, tools=[])
    assert sampling_of(asked) == Sampling(9, 0.0, 0.5, 7, ("x",))
    assert sampling_of(job(stop=["a", "", "b"])).stops == ("a", "b")
    assert sampling_of(job("/v1/completions", prompt="x", response_format={"type": "text"})).temperature == 1.0


CANNOT: list[tuple[dict[str, Any], str]] = [
    ({"tools": [{}]}, "tools_not_supported"),
    ({"n": 2}, "n_not_supported"),
    ({"logprobs": True}, "logprobs_not_supported"),
    ({"presence_penalty": 0.5}, "presence_penalty_not_supported"),
    ({"response_format": {"type": "json_schema"}}, "response_format_not_supported"),
    ({"temperature": "hot"}, "invalid_request"),
    ({"temperature": -1}, "invalid_request"),
    ({"top_p": 1.5}, "invalid_request"),
    ({"top_k": True}, "invalid_request"),
    ({"stop": [1]}, "invalid_request"),
    ({"stop": ["x"] * (MOST_STOPS + 1)}, "invalid_request"),
]


@pytest.mark.parametrize(("body", "code"), CANNOT)
def test_what_cannot_be_done_is_refused(body: dict[str, Any], code: str) -> None:
    with pytest.raises(Fault) as caught:
        sampling_of(job(**body))
    assert (caught.value.refusal.outcome, caught.value.refusal.code) == ("invalid", code)


def test_other_endpoints_are_refused() -> None:
    with pytest.raises(Fault) as caught:
        sampling_of(job("/v1/embeddings"))
    assert caught.value.refusal.code == "endpoint_not_supported"


def by_byte(tokens: Sequence[int]) -> str:
    """A tokenizer whose tokens are bytes, and which drops the blank before a text, as SentencePiece's do."""
    return bytes(tokens).decode(errors="replace").removeprefix(" ")


def told(text: str, stops: Sequence[str] = (), step: int = 1) -> tuple[list[str], bool]:
    made, raw = Detokenizer(by_byte, stops), text.encode()
    pieces = []
    for at in range(0, len(raw), step):
        pieces.append(made.feed(raw[at : at + step]))
        if made.stopped:
            break
    return [p for p in [*pieces, made.finish()] if p], made.stopped


def test_pieces_are_whole_characters() -> None:
    pieces, _ = told("aé🦀 日")
    assert pieces == ["a", "é", "🦀", " ", "日"]


@given(
    st.text(alphabet="ab é🦀", max_size=30),
    st.lists(st.text("ab ", min_size=1, max_size=4), max_size=3),
    st.integers(1, 5),
)
def test_pieces_make_the_text_as_far_as_the_first_stop(text: str, stops: list[str], step: int) -> None:
    text = "x" + text
    pieces, stopped = told(text, stops, step)
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    assert stopped == bool(ends)
    shown = "".join(pieces)
    if not ends:
        assert shown == text
    else:
        # Which of two stops is whole first depends on how the tokens came.
        assert text.startswith(shown) and len(shown) in ends


def test_bytes_that_never_become_a_character_are_shown_in_the_end() -> None:
    made = Detokenizer(by_byte)
    assert made.feed(b"a") == "a" and made.feed(b"\xf0") == ""
    assert made.finish() == "\ufffd"
    assert Detokenizer(by_byte).feed(b"\xff" * 4) == "\ufffd" * 4
