"""Bodies that fit no endpoint: each is refused or goes to a model, none ends admission."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.world import T0, engine, request, rows

LONG = "x" * 1_200
ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings")
NAMES = (
    "messages",
    "instructions",
    "text",
    "reasoning",
    "tool_choice",
    "prompt",
    "input",
    "tools",
    "suffix",
    "response_format",
    "stop",
    "max_tokens",
    "n",
    "temperature",
)
FIELDS = ("role", "content", "type", "text", "function", "tool_calls")
PARTS = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=3),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(NAMES), PARTS, max_size=4)


def outcome(body: dict[str, Any], endpoint: str) -> tuple[int, int]:
    """How many usage rows and how much work one request with this body makes."""
    e = engine(rules=[{"id": "banned", "match": "a banned phrase"}])
    e.step("Request", request() | {"endpoint": endpoint, "body": orjson.dumps({"model": "echo", **body})}, T0)
    return len(rows(e)), len(e.read_work())


@settings(max_examples=300, deadline=None)
@given(BODIES, st.sampled_from((*ENDPOINTS, "/v1/responses")))
def test_whatever_a_body_holds_it_is_refused_or_sent_on(body: dict[str, Any], endpoint: str) -> None:
    refused, sent = outcome(body, endpoint)
    assert refused + sent == 1
    # The beginning of a long one is read, too.
    refused, sent = outcome(body | {"user": LONG}, endpoint)
    assert refused + sent == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("messages", [5, "x", {}, True, [5], [{"role": ["x"], "content": "y"}], [{"content": "y"}]])
def test_messages_of_another_shape_are_refused_at_every_endpoint(messages: Any, endpoint: str) -> None:
    assert outcome({"prompt": "x", "input": "x", "messages": messages}, endpoint) == (1, 0)
    assert outcome({"prompt": LONG, "input": LONG, "messages": messages}, endpoint) == (1, 0)
