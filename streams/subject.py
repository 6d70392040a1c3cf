"""The end user behind a request, as the lake names him: a hash, so that rows can be found without his name. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

# The fields of OpenAI's API that name the caller's own user; the first one given counts.
FIELDS: Final = ("safety_identifier", "user")
DIGITS: Final = 32


def of(tenant: str, user: str) -> str:
    """The name of `user` of a tenant in the lake, 32 hex digits; empty for no user."""
    return hashlib.sha256(f"{tenant}\n{user}".encode()).hexdigest()[:DIGITS] if user else ""


def of_body(tenant: str, body: Mapping[str, Any]) -> str:
    """Of a request's body; empty where it names nobody."""
    for field in FIELDS:
        user = body.get(field)
        if isinstance(user, str) and user:
            return of(tenant, user)
    return ""
