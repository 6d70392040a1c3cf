"""How a request ended, as admission decides it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from schemas.records import Completion


class Verdict(NamedTuple):
    """How a request ended. `attempt` is the completion that ended it, if one did."""

    status: str
    http_status: int
    body: bytes
    cache: str = "none"
    error_code: str = ""
    error_message: str = ""
    attempt: Completion | None = None
    headers: Mapping[str, str] | None = None


def error_body(message: str, kind: str, code: str, param: str | None = None) -> bytes:
    """An error in OpenAI's envelope."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def refusal(http_status: int, message: str, code: str, param: str | None = None, **more: Any) -> Verdict:
    """A verdict that refuses the request."""
    kind = {401: "authentication_error", 404: "invalid_request_error", 429: "rate_limit_error"}.get(
        http_status, "invalid_request_error" if http_status < 500 else "server_error"
    )
    body = error_body(message, kind, code, param)
    return Verdict("refused", http_status, body, error_code=code, error_message=message, **more)


def ended(status: str, *, batch: bool, attempt: Completion | None = None) -> Verdict:
    """The verdict of a request that ended without an answer: expired, cancelled, interrupted or failed."""
    http_status, code, message = {
        "expired": (
            (504, "batch_expired", "This request could not be executed before the completion window expired.")
            if batch
            else (504, "request_timeout", "This request could not be executed before its deadline.")
        ),
        "cancelled": (
            (499, "batch_cancelled", "This request was cancelled with its batch.")
            if batch
            else (499, "request_cancelled", "The caller left before the answer was finished.")
        ),
        "interrupted": (502, "interrupted", "The worker that streamed this answer died; what was shown is incomplete."),
        "failed": (502, "upstream_failed", "No pool of this model's route could answer."),
    }[status]
    body = error_body(message, "server_error", code)
    return Verdict(status, http_status, body, error_code=code, error_message=message, attempt=attempt)
