"""Where a command talks to, and as whom."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import typer

from ingest.cli.fault import Fault

if TYPE_CHECKING:
    from ingest.cli.client import Client

NO_KEY: Final = (
    "there is no API key: set MILLRACE_API_KEY, or give --key before the command (config/ has the demo's: mr-acme-demo)"
)


class Address(NamedTuple):
    """The API's base URL, which ends in /v1, and a key."""

    url: str
    key: str


def find(env: Mapping[str, str], url: str = "", key: str = "") -> Address:
    """The address a command talks to: what was given, else the environment's, else the local stack's.

    OPENAI_BASE_URL and OPENAI_API_KEY count together and only where neither of ours is set: a key that was made for
    one address is not shown to another.
    """
    url, key = url or env.get("MILLRACE_URL", ""), key or env.get("MILLRACE_API_KEY", "")
    if not url and not key:
        theirs = env.get("OPENAI_BASE_URL", ""), env.get("OPENAI_API_KEY", "")
        if all(theirs):
            url, key = theirs
    if not url:
        # The gateway's own setting: where it listens on every interface, it is reached on the loopback one.
        host = env.get("MILLRACE_HTTP_HOST", "0.0.0.0")
        host = "127.0.0.1" if host in ("", "0.0.0.0", "::") else host
        url = f"http://{host}:{env.get('MILLRACE_HTTP_PORT') or '8080'}"
    url = url.rstrip("/")
    return Address(url if url.endswith("/v1") else f"{url}/v1", key)


@dataclass
class Session:
    """One run of the command line: the options before the command, and whether it prints JSON."""

    url: str = ""
    key: str = ""
    json: bool = False
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)

    def client(self) -> Client:
        """A client of the API. Raises Fault without a key."""
        from ingest.cli.client import Client

        address = find(self.env, self.url, self.key)
        if not address.key:
            raise Fault(NO_KEY, code="no_api_key")
        return Client(address)


def session(ctx: typer.Context) -> Session:
    """The session of a command."""
    found = ctx.find_root().obj
    assert isinstance(found, Session)
    return found
