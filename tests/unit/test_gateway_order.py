from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from ingest.body import MAX_BODY_BYTES
from ingest.envelope import ApiError
from ingest.order import DEADLINE_MS, MAX_REMEMBERED, Order, Repeats, read_order
from ingest.services import may_call
from schemas.config import Principal

BODY = b'{"messages": [{"role": "user", "content": "x"}]}'
WHO = Principal("acme", "demo", ("client",))


def read(headers: dict[bytes, bytes], parts: Iterable[bytes] = (BODY,), repeats: Repeats | None = None) -> Order:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": p, "more_body": True} for p in parts]
    messages[-1]["more_body"] = False
    left = iter(messages)

    async def receive() -> dict[str, Any]:
        return next(left, {"type": "http.disconnect"})

    scope = {"path": "/v1/chat/completions"}
    return asyncio.run(read_order(scope, receive, headers, WHO, repeats or Repeats()))


def fault(*args: Any, **kwargs: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        read(*args, **kwargs)
    return caught.value


def test_a_body_in_parts_is_forwarded_as_received() -> None:
    order = read({}, [BODY[:10], b"", BODY[10:]])
    assert order.raw == BODY
    assert (order.cache, order.repeatable, order.deadline - order.received_at) == ("default", False, DEADLINE_MS)


@pytest.mark.parametrize(
    ("value", "expected"), [(b"1", 1), (b"1500", 1500), (b"600000", DEADLINE_MS), (b"99999999", DEADLINE_MS)]
)
def test_a_timeout_may_only_shorten(value: bytes, expected: int) -> None:
    order = read({b"x-millrace-timeout-ms": value})
    assert order.deadline - order.received_at == expected


@pytest.mark.parametrize("value", [b"0", b"-5", b"1.5", b"soon", b""])
def test_bad_timeouts_are_refused(value: bytes) -> None:
    assert fault({b"x-millrace-timeout-ms": value}).param == "x-millrace-timeout-ms"


def test_the_cache_header_is_a_closed_list() -> None:
    assert [read({b"x-millrace-cache": v}).cache for v in (b"on", b"OFF", b"default")] == ["on", "off", "default"]
    assert fault({b"x-millrace-cache": b"yes"}).status == 400


def test_large_bodies_are_refused_by_their_length_and_by_their_bytes() -> None:
    assert fault({b"content-length": b"%d" % (MAX_BODY_BYTES + 1)}).status == 413
    assert fault({}, [b" " * MAX_BODY_BYTES, b" "]).status == 413


def test_an_idempotency_key_gives_the_same_id_to_one_tenant_and_body() -> None:
    repeats = Repeats()
    first = read({b"idempotency-key": b"k"}, repeats=repeats)
    assert first.repeatable
    assert read({b"idempotency-key": b"k"}, repeats=repeats).request_id == first.request_id
    assert read({b"idempotency-key": b"k"}).request_id == first.request_id  # also in another process
    assert repeats.identify("globex", "k", b"other body") != first.request_id
    other = fault({b"idempotency-key": b"k"}, [BODY + b" "], repeats)
    assert (other.status, other.code) == (422, "idempotency_key_reused")
    assert fault({b"idempotency-key": b"k" * 256}).status == 400


def test_so_many_keys_are_remembered_and_no_more() -> None:
    repeats = Repeats()
    repeats.identify("t", "first", b"a")
    for i in range(MAX_REMEMBERED):
        repeats.identify("t", str(i), b"a")
    repeats.identify("t", "first", b"b")  # forgotten, so not refused


def test_a_caller_who_leaves_before_the_end_is_no_error() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(ConnectionError):
        asyncio.run(read_order({"path": "/v1/chat/completions"}, receive, {}, WHO, Repeats()))


@pytest.mark.parametrize("roles", [("client",), ("admin",), ("analyst", "client"), ("tenant_admin",)])
def test_roles_that_may_call(roles: Any) -> None:
    assert may_call(Principal("t", "n", roles))


@pytest.mark.parametrize("roles", [("analyst",), ()])
def test_roles_that_may_not(roles: Any) -> None:
    with pytest.raises(ApiError) as caught:
        may_call(Principal("t", "n", roles))
    assert caught.value.status == 403
