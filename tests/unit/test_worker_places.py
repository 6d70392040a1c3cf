"""What a generation of the native server needs to go on: its place, its tokens, its counts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.engines import Continuation, Job
from workers.engines.generation import Generation, chatml, numbered
from workers.engines.places import ANY, Places, common
from workers.outcome import Counts, Fault


@given(st.text("ab", max_size=12), st.text("ab", max_size=12))
def test_what_two_texts_have_in_common(a: str, b: str) -> None:
    shared = common(a, b)
    assert a[:shared] == b[:shared] and (shared in (len(a), len(b)) or a[shared] != b[shared])


def test_a_stopped_generation_finds_its_place_while_others_come_and_go() -> None:
    places = Places(3)
    mine = places.take("mine")
    places.leave(mine, stopped=True)
    for n in range(6):
        other = places.take(f"{n} other")
        assert other != mine
        places.leave(other, stopped=False)
    assert places.take("mine", mine) == mine
    assert places.take("mine", mine) != mine  # It is busy now.


def test_a_prompt_goes_where_half_of_it_lies_and_else_where_nothing_ran_for_longest() -> None:
    places = Places(2)
    first, second = places.take("a long system prompt: one"), places.take("nothing alike")
    places.leave(first, stopped=False)
    places.leave(second, stopped=False)
    assert places.take("a long system prompt: two") == first
    places.leave(first, stopped=False)
    assert places.take("quite new") == second


def test_when_all_is_held_the_oldest_goes_and_when_all_is_busy_the_server_decides() -> None:
    places = Places(2)
    taken = [places.take("one"), places.take("two")]
    assert places.take("three") == ANY
    places.leave(ANY, stopped=True)
    for number in taken:
        places.leave(number, stopped=True)
    assert places.take("three") == taken[0]


def job(before: Continuation | None = None, **body: Any) -> Job:
    return Job("r", "/v1/chat/completions", "m", body, False, 10, 8, "batch", before)


def chunk(text: str, token: int | None, cached: int, read: int, predicted: int) -> dict[str, Any]:
    logprobs = {"content": [{"id": token, "token": text}]} if token is not None else None
    timings = {"cache_n": cached, "prompt_n": read, "predicted_n": predicted}
    return {"choices": [{"index": 0, "text": text, "logprobs": logprobs, "finish_reason": None}], "timings": timings}


def test_counts_and_tokens_of_an_answer_in_two_stretches_are_those_of_one() -> None:
    first = Generation(job(), numbered=True)
    first.take(chunk("a", 11, 2, 5, 1))
    piece = first.take(chunk("b", 12, 2, 5, 2))
    assert piece is not None and piece.continuation is not None
    assert piece.data == {"choices": [{"index": 0, "delta": {"content": "b"}, "finish_reason": None}]}
    second = Generation(job(piece.continuation), numbered=True)
    assert second.tokens == [11, 12]
    piece = second.take(chunk("c", 13, 8, 1, 1))
    assert piece is not None and piece.continuation is not None
    assert (piece.counts, piece.continuation.tokens) == (Counts(7, 3, 2), [11, 12, 13])
    assert piece.continuation.repeated == 0 and first.tokens == [11, 12]
    assert second.usage()["total_tokens"] == 10


def test_what_a_place_has_lost_is_repeated_and_not_billed() -> None:
    before = Continuation(Counts(7, 2, 2), [11, 12], 0)
    piece = Generation(job(before), numbered=True).take(chunk("c", 13, 0, 9, 1))
    assert piece is not None and piece.continuation is not None
    assert (piece.counts, piece.continuation.repeated) == (Counts(7, 3, 2), 8)
    prompt_only = Generation(job(Continuation(Counts(7, 0, 2), [], 0)), numbered=True)
    piece = prompt_only.take(chunk("a", 11, 1, 6, 1))
    assert piece is not None and piece.continuation is not None
    assert (piece.counts.input_tokens, piece.continuation.repeated) == (7, 6)


def test_where_a_token_is_not_told_the_answer_cannot_go_on() -> None:
    answer = Generation(job(), numbered=True)
    piece = answer.take(chunk("é", 11, 0, 5, 2))  # one character of two tokens, one of which was told
    assert piece is not None and piece.continuation is None
    plain = Generation(job(), numbered=False).take(chunk("a", None, 0, 5, 1))
    assert plain is not None and plain.continuation is None


@pytest.mark.parametrize(
    ("body", "whether"),
    [
        ({}, True),
        ({"temperature": 0, "seed": 1}, True),
        ({"temperature": 0.7}, True),
        ({"temperature": 0.7, "seed": 0}, False),
        ({"logprobs": True}, False),
        ({"response_format": {"type": "json_object"}}, False),
    ],
)
def test_only_what_depends_on_its_tokens_alone_goes_on(body: dict[str, Any], whether: bool) -> None:
    assert numbered(job(**body)) is whether


def test_a_prompt_beyond_the_limit_and_an_error_are_faults() -> None:
    with pytest.raises(Fault) as fault:
        Generation(job(), numbered=True).take(chunk("a", 1, 0, 11, 1))
    assert fault.value.refusal.code == "context_length_exceeded" and fault.value.counts == Counts(11, 1, 0)
    with pytest.raises(Fault) as fault:
        Generation(job(), numbered=True).take({"error": {"code": 400, "message": "no"}})
    assert fault.value.refusal.outcome == "invalid"


def test_the_prompt_is_what_the_template_makes() -> None:
    said = [{"role": "user", "content": "Hi"}]
    assert chatml(said) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
