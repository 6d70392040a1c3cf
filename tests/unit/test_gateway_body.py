from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.body import CHAT, COMPLETIONS, EMBEDDINGS, Body, parse
from ingest.envelope import ApiError

HELLO = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"messages": HELLO}, Body("", False, False)),
        ({"messages": HELLO, "model": "m", "unknown": {"x": [1]}}, Body("m", False, False)),
        ({"messages": HELLO, "model": None, "max_tokens": 1, "stream": None}, Body("", False, False)),
        ({"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}, Body("", True, True)),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, Body("", False, False)),
    ],
)
def test_good_chat_bodies(data: Any, expected: Body) -> None:
    assert parse(orjson.dumps(data), CHAT) == expected


@pytest.mark.parametrize(
    ("raw", "param", "code"),
    [
        (b"{", None, "invalid_json"),
        (b"", None, "invalid_json"),
        (b"\xff", None, "invalid_json"),
        (b'{"messages": NaN}', None, "invalid_json"),
        (b"[" * 100_000, None, "invalid_json"),
        (b"[]", None, "invalid_request"),
        (b'"text"', None, "invalid_request"),
        (b"{}", "messages", "invalid_request"),
        (b'{"messages": []}', "messages", "invalid_request"),
        (b'{"messages": {}}', "messages", "invalid_request"),
        (b'{"messages": ["x"]}', "messages[0]", "invalid_request"),
        (b'{"messages": [{"role":"user"},{"content":"x"}]}', "messages[1].role", "invalid_request"),
        (b'{"messages": [{"role":1}]}', "messages[0].role", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "model": 3}', "model", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_tokens": 0}', "max_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_tokens": -1}', "max_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_tokens": 1.5}', "max_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_tokens": true}', "max_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_tokens": "9"}', "max_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "max_completion_tokens": 0}', "max_completion_tokens", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "stream": "yes"}', "stream", "invalid_request"),
        (b'{"messages": [{"role":"user"}], "stream_options": 1}', "stream_options", "invalid_request"),
    ],
)
def test_bad_chat_bodies_name_the_field(raw: bytes, param: str | None, code: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse(raw, CHAT)
    assert (caught.value.status, caught.value.param, caught.value.code) == (400, param, code)
    assert set(orjson.loads(caught.value.body())["error"]) == {"message", "type", "param", "code"}


def test_other_endpoints_want_their_own_field() -> None:
    assert parse(b'{"prompt": "x", "stream": true}', COMPLETIONS).stream
    assert not parse(b'{"input": ["x"], "stream": true}', EMBEDDINGS).stream
    for endpoint, param in ((COMPLETIONS, "prompt"), (EMBEDDINGS, "input")):
        with pytest.raises(ApiError) as caught:
            parse(b'{"messages": [{"role": "user"}]}', endpoint)
        assert caught.value.param == param
