"""What the routes of the gateway share: addresses, codec, journal, configuration, keys, S3."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import boto3
from botocore.config import Config
from starlette.requests import Request

from ingest import envelope
from ingest.enquiries import Enquiries
from ingest.follower import Follower
from ingest.journal import Journal
from ingest.receiving import Receiving
from schemas.addresses import Addresses
from schemas.config import ConfigDocument, Principal, hash_key
from schemas.wire import Codec

CALLERS: Final = frozenset({"client", "tenant_admin", "admin"})


@dataclass
class Services:
    """One per gateway process."""

    addresses: Addresses
    codec: Codec
    journal: Journal
    follower: Follower
    receiving: Receiving = field(default_factory=Receiving)
    enquiries: Enquiries | None = None

    def config(self) -> ConfigDocument:
        """The live configuration. Raises ApiError (503) while none is known."""
        current = self.follower.current
        if current is None:
            raise envelope.unavailable("There is no configuration yet; run `make apply`.", "not_configured")
        return current

    def principal(self, authorization: str | None) -> Principal:
        """Who holds the key in an Authorization header. Raises ApiError (401)."""
        scheme, _, key = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise envelope.unauthorized("You didn't provide an API key: send `Authorization: Bearer KEY`.")
        # A hash is no key: hash_key would pass `sha256:…` through, and so would let a leaked hash in.
        found = None if key.startswith("sha256:") else self.config().keys.get(hash_key(key.strip()))
        if found is None:
            raise envelope.unauthorized(f"Incorrect API key provided: {mask(key.strip())}.")
        return found

    async def authenticate(self, request: Request) -> Principal:
        """FastAPI dependency: whoever holds a valid key. Raises ApiError (401, 503)."""
        return self.principal(request.headers.get("authorization"))

    async def caller(self, request: Request) -> Principal:
        """FastAPI dependency: one who may send work. Raises ApiError (401, 403, 503)."""
        return may_call(self.principal(request.headers.get("authorization")))

    @cached_property
    def s3(self) -> Any:
        """A boto3 client for the bucket's server; thread-safe. Blocking: call it through asyncio.to_thread."""
        return s3_client(self.addresses)


def may_call(principal: Principal) -> Principal:
    """The principal, if one of its roles may send work. Raises ApiError (403)."""
    if CALLERS.isdisjoint(principal.roles):
        raise envelope.forbidden("This key may read usage, but not send work.")
    return principal


def mask(key: str) -> str:
    """A key as it may be shown: its first characters."""
    return f"{key[:6]}…" if len(key) > 10 else "…"


def s3_client(addresses: Addresses) -> Any:
    """A boto3 client with bounded waits and path-style addresses."""
    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path"},
        connect_timeout=3,
        read_timeout=30,
        retries={"max_attempts": 3, "mode": "standard"},
        max_pool_connections=32,
        # Servers other than Amazon's do not know the newer trailing checksums.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.client(
        "s3",
        endpoint_url=addresses.s3,
        aws_access_key_id=addresses.s3_access_key,
        aws_secret_access_key=addresses.s3_secret_key,
        region_name="us-east-1",
        config=config,
    )
