"""What a caller ordered: headers and body of a call, read and checked."""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

from starlette.types import Receive, Scope

from ingest import body as bodies
from ingest import envelope
from ingest.envelope import ApiError
from schemas.config import Principal

DEADLINE_MS: Final = 600_000
# Of a flex call: those who use it wait for a quarter of an hour; an hour at most.
FLEX_DEADLINE_MS: Final = 900_000
FLEX_LONGEST_MS: Final = 3_600_000
BODY_TIMEOUT_S: Final = 30.0
IDEMPOTENCY: Final = uuid.UUID("6f3c1f0e-0d6b-5c7e-9a52-6d696c6c7261")
MAX_REMEMBERED: Final = 10_000
MAX_KEY_CHARS: Final = 255

Headers = Mapping[bytes, bytes]


class Order(NamedTuple):
    """A call that was checked and can be queued. Times in ms."""

    principal: Principal
    request_id: str
    endpoint: str
    raw: bytes
    body: bodies.Body
    cache: str
    repeatable: bool
    received_at: int
    deadline: int


class Repeats:
    """The bodies that came under the latest Idempotency-Keys: a key may not be used for two different requests."""

    def __init__(self) -> None:
        self._bodies: OrderedDict[tuple[str, str], bytes] = OrderedDict()

    def identify(self, tenant: str, key: str, raw: bytes) -> str:
        """The id that every repeat under an Idempotency-Key has. Raises ApiError if the body is another one."""
        if len(key) > MAX_KEY_CHARS:
            raise envelope.invalid(f"Idempotency-Key is longer than {MAX_KEY_CHARS} characters.", "Idempotency-Key")
        digest = hashlib.blake2b(raw, digest_size=16).digest()
        if self._bodies.setdefault((tenant, key), digest) != digest:
            raise ApiError(
                422,
                "This Idempotency-Key was used with another body.",
                code="idempotency_key_reused",
                type="idempotency_error",
                param="Idempotency-Key",
            )
        if len(self._bodies) > MAX_REMEMBERED:
            self._bodies.popitem(last=False)
        return str(uuid.uuid5(IDEMPOTENCY, f"{tenant}\n{key}"))


async def read_order(scope: Scope, receive: Receive, headers: Headers, principal: Principal, repeats: Repeats) -> Order:
    """Read a call to its end. Raises ApiError (400, 408, 413, 422), ConnectionError when the caller leaves before."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            raw = await _read(receive, headers)
    except TimeoutError:
        raise ApiError(408, f"The body did not arrive within {BODY_TIMEOUT_S:.0f} s.", code="request_timeout") from None
    parsed = bodies.parse(raw, scope["path"])
    key = headers.get(b"idempotency-key", b"").decode("latin-1")
    request_id = repeats.identify(principal.tenant, key, raw) if key else str(uuid.uuid4())
    now = time.time_ns() // 1_000_000
    deadline = now + _timeout_ms(headers, *_waits(parsed))
    cache = _cache(headers)
    return Order(principal, request_id, scope["path"], raw, parsed, cache, bool(key), now, deadline)


async def _read(receive: Receive, headers: Headers) -> bytes:
    """The body. Raises ApiError (413), ConnectionError when the caller leaves before its end."""
    if int(headers.get(b"content-length", b"0")) > bodies.MAX_BODY_BYTES:
        raise envelope.too_large(bodies.MAX_BODY_BYTES)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > bodies.MAX_BODY_BYTES:
            raise envelope.too_large(bodies.MAX_BODY_BYTES)
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _cache(headers: Headers) -> str:
    value = headers.get(b"x-millrace-cache", b"default").decode("latin-1").lower()
    if value not in ("on", "off", "default"):
        raise envelope.invalid("x-millrace-cache must be on, off or default.", "x-millrace-cache")
    return value


def _waits(body: bodies.Body) -> tuple[int, int]:
    """How long a call waits, and how long it may wait at most (ms)."""
    return (FLEX_DEADLINE_MS, FLEX_LONGEST_MS) if body.patient else (DEADLINE_MS, DEADLINE_MS)


def _timeout_ms(headers: Headers, usual_ms: int, longest_ms: int) -> int:
    value = headers.get(b"x-millrace-timeout-ms")
    if value is None:
        return usual_ms
    if not value.isdigit() or int(value) < 1:
        raise envelope.invalid("x-millrace-timeout-ms must be a positive number of ms.", "x-millrace-timeout-ms")
    return min(int(value), longest_ms)
