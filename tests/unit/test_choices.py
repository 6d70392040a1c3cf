"""Properties of two choices: the side of a split, and the identity of an answer."""

from __future__ import annotations

from collections import Counter

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Model, Share
from streams import body as bodies
from streams.policy import split

key_of = bodies.cache_key
names = st.text(st.characters(codec="utf-8"), max_size=20)
weights = st.lists(st.integers(0, 100), min_size=1, max_size=4).filter(any)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
# What changes an answer, with two values that differ.
MATTERS = {
    "temperature": (0, 0.5), "top_p": (1, 0.1), "max_tokens": (5, 6), "seed": (1, 2), "stop": ("a", ["a", "b"]),
    "tools": ([], [{"type": "function"}]), "response_format": ({"type": "text"}, {"type": "json_object"}),
    "n": (1, 2), "logit_bias": ({"1": 1}, {"1": 2}), "unheard_of": (1, None), "presence_penalty": (0, 1),
}  # fmt: skip
MATTERS_NOT = {"stream": True, "stream_options": {"include_usage": True}, "user": "u", "metadata": {"a": "b"}}


def shares(weighted: list[int]) -> Model:
    return Model(split=tuple(Share(f"m{i}", w) for i, w in enumerate(weighted)), sticky="user")


@given(names, weights, names)
def test_a_side_always_falls_the_same_way_and_never_on_a_share_of_nothing(name, weighted, side):
    model = shares(weighted)
    chosen = split(name, model, side).model
    assert chosen == split(name, shares(list(weighted)), side).model
    assert next(s.weight for s in model.split if s.model == chosen) > 0


@pytest.mark.parametrize("weighted", [[90, 10], [1, 1, 1], [0, 5, 95], [1]])
def test_shares_are_as_large_as_their_weights(weighted):
    count = Counter(split("chat", shares(weighted), f"side {i}").model for i in range(10_000))
    for i, weight in enumerate(weighted):
        assert abs(count[f"m{i}"] / 10_000 - weight / sum(weighted)) < 0.015


def test_a_larger_share_takes_sides_from_the_others_and_gives_none_back():
    sides = [f"side {i}" for i in range(2_000)]
    small = {s for s in sides if split("chat", shares([10, 90]), s).model == "m0"}
    large = {s for s in sides if split("chat", shares([30, 70]), s).model == "m0"}
    assert small < large


@given(st.dictionaries(names, values, max_size=6))
def test_the_identity_of_an_answer_does_not_depend_on_the_order_of_fields(body):
    other = dict(reversed(body.items()))
    assert key_of(body, "/v1/chat/completions", "m") == key_of(other, "/v1/chat/completions", "m")


@given(st.dictionaries(names, values, max_size=6), st.dictionaries(names, values, max_size=6))
def test_bodies_that_differ_have_identities_that_differ(one, other):
    def meant(body):
        return orjson.dumps(
            {k: v for k, v in body.items() if k not in bodies.NOT_IDENTITY}, option=orjson.OPT_SORT_KEYS
        )

    equal = key_of(one, "e", "m") == key_of(other, "e", "m")
    assert equal == (meant(one) == meant(other))


@pytest.mark.parametrize("field", MATTERS)
def test_every_parameter_that_may_change_the_answer_is_part_of_its_identity(field):
    base = {"messages": [{"role": "user", "content": "hello"}]}
    first, second = MATTERS[field]
    keys = {key_of(b, "e", "m") for b in (base, {**base, field: first}, {**base, field: second})}
    assert len(keys) == 3


@pytest.mark.parametrize("field", MATTERS_NOT)
def test_what_leaves_the_answer_as_it_is_does_not(field):
    base = {"messages": [{"role": "user", "content": "hello"}]}
    assert key_of(base, "e", "m") == key_of({**base, field: MATTERS_NOT[field]}, "e", "m")


def test_messages_models_and_endpoints_are():
    base = {"messages": [{"role": "user", "content": "hello"}]}
    other = {"messages": [{"role": "system", "content": "hello"}]}
    keys = {key_of(b, e, m) for b in (base, other) for e in ("a", "b") for m in ("m", "n")}
    assert len(keys) == 8
