"""What is sent to a webhook: the event as OpenAI writes it, signed as Standard Webhooks. Pure.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

import orjson

from schemas.records import Delivery

PREFIX: Final = "whsec_"
MIN_BYTES: Final = 24
MAX_BYTES: Final = 64


class SecretError(ValueError):
    """There is no usable secret. The text names variables, never what is in them."""


def key_of(secret: str) -> bytes | None:
    """The key that a secret stands for: base64 after `whsec_`, of 24 to 64 bytes; None if it is none."""
    if not secret.startswith(PREFIX):
        return None
    try:
        found = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return None
    return found if MIN_BYTES <= len(found) <= MAX_BYTES else None


def keys_of(variables: Sequence[str], env: Mapping[str, str]) -> list[bytes]:
    """The keys in these variables, but for those that are not set. Raises SecretError if none is, or one is no key."""
    found: list[bytes] = []
    for name in variables:
        if not (secret := env.get(name, "")):
            continue
        if (key := key_of(secret)) is None:
            raise SecretError(f"{name} is not {PREFIX} and base64 of {MIN_BYTES} to {MAX_BYTES} bytes")
        found.append(key)
    if not found:
        raise SecretError(f"{' and '.join(variables)} is not in the environment")
    return found


def body(delivery: Delivery) -> bytes:
    """The event. The same bytes for each attempt."""
    event = {
        "id": delivery["event_id"],
        "object": "event",
        "created_at": delivery["created_at"] // 1000,
        "type": delivery["type"],
        "data": {"id": delivery["batch_id"]},
    }
    return orjson.dumps(event)


def signature(message_id: str, at_s: int, payload: bytes, keys: Sequence[bytes]) -> str:
    """One signature by each key, separated by spaces: a receiver needs to know only one of them."""
    signed = f"{message_id}.{at_s}.".encode() + payload
    digests = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def headers(message_id: str, at_s: int, payload: bytes, keys: Sequence[bytes]) -> dict[str, str]:
    """Headers of an attempt that begins at `at_s`, Unix seconds."""
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": signature(message_id, at_s, payload, keys),
    }
