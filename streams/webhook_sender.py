"""Calls webhooks: one POST, ten seconds, no redirect; nothing of the answer counts but its status."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from schemas import webhooks
from schemas.webhooks import Webhook

TIMEOUT_S: Final = 10.0
MAX_HEADER_BYTES: Final = 8 * 1024
AGENT: Final = "Millrace-Webhooks/1"


class Answer(NamedTuple):
    """What became of a call: the status answered (0 for none), and why it failed, in words of ours (empty if not)."""

    http_status: int
    error: str


class Refused(OSError):
    """A name stands for an address that is not to be called."""


class Resolver(AbstractResolver):
    """Looks names up at each call, and lets through only addresses that may be called: what a name stands for can
    change between two looks, so these are the addresses that are connected to.
    """

    def __init__(self, *, private: bool) -> None:
        self._private = private
        self._names = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises Refused if none of them may be called."""
        found = await self._names.resolve(host, port, family)
        good = [r for r in found if webhooks.refusal(r["host"], self._private) is None]
        if not good:
            raise Refused(f"{host} does not stand for an address that may be called")
        return good

    async def close(self) -> None:
        """Nothing is held."""
        await self._names.close()


class Sender:
    """One per process, open inside `async with`."""

    def __init__(self) -> None:
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        for private in (False, True):
            # No connection is kept: an endpoint is called seldom. No limit here: streams/delivery_queue.py has them.
            connector = aiohttp.TCPConnector(
                limit=0, force_close=True, use_dns_cache=False, resolver=Resolver(private=private)
            )
            self._sessions[private] = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                max_line_size=MAX_HEADER_BYTES,
                max_field_size=MAX_HEADER_BYTES,
                headers={"user-agent": AGENT},
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    async def post(self, webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Call an endpoint. The body of its answer is not read: the connection ends with the head."""
        if fault := webhooks.fault(webhook):
            return Answer(0, f"{fault[0]} {fault[1]}")
        options: dict[str, Any] = {"allow_redirects": False, "headers": headers}
        try:
            url = URL(webhook.url, encoded=True)
            async with self._sessions[webhook.private].post(url, data=body, **options) as response:
                return _judge(response.status)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(0, _words(error))


def _judge(status: int) -> Answer:
    if 200 <= status < 300:
        return Answer(status, "")
    moved = ", and redirects are not followed" if 300 <= status < 400 else ""
    return Answer(status, f"it answered {status}{moved}")


def _words(error: Exception) -> str:
    """A fault in words of ours: those of libraries repeat the URL, which may hold a token."""
    cause = error.__cause__ or error
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    if isinstance(cause, Refused) or isinstance(getattr(error, "os_error", None), Refused):
        return "its name stands for no address that may be called"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "its name cannot be resolved"
    if isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError)):
        return "TLS failed"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"no connection: {error.os_error.strerror or type(error.os_error).__name__}"[:100]
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "it hung up without an answer"
    return f"{type(error).__name__}"
