"""Errors as OpenAI's API writes them: {"error": {message, type, param, code}}, always all four keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import orjson
from starlette.responses import Response

INVALID: Final = "invalid_request_error"
SERVER: Final = "server_error"
JSON: Final = "application/json"


class ApiError(Exception):
    """An answer other than the one asked for. `status` is the HTTP status; `headers` go out with it."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        type: str = INVALID,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.type = type
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The envelope as UTF-8 JSON."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})

    def response(self) -> Response:
        """The envelope as an HTTP answer."""
        return Response(self.body(), self.status, self.headers, JSON)


def invalid(message: str, param: str | None = None, code: str = "invalid_request") -> ApiError:
    """400: the request cannot be understood."""
    return ApiError(400, message, code=code, param=param)


def unauthorized(message: str) -> ApiError:
    """401: no key, or one that is not (or no longer) valid."""
    return ApiError(401, message, code="invalid_api_key")


def forbidden(message: str) -> ApiError:
    """403: the key is valid, but not for this."""
    return ApiError(403, message, code="insufficient_permissions", type="permission_error")


def not_found(message: str, param: str | None = None, code: str = "not_found") -> ApiError:
    """404: there is no such thing for this tenant."""
    return ApiError(404, message, code=code, param=param)


def conflict(message: str, code: str = "conflict") -> ApiError:
    """409: not in its present state."""
    return ApiError(409, message, code=code)


def too_large(limit_bytes: int) -> ApiError:
    """413: the body is larger than we read."""
    return ApiError(413, f"The body is larger than {limit_bytes} bytes.", code="request_too_large")


def unavailable(message: str, code: str = "service_unavailable") -> ApiError:
    """503: we cannot take this now; trying again may work."""
    return ApiError(503, message, code=code, type=SERVER, headers={"retry-after": "1"})


def no_flex() -> ApiError:
    """429, as OpenAI answers where there is no room for flex: later, or at the usual tier."""
    message = "Too many calls wait at service_tier flex. Try again later, or leave service_tier out."
    headers = {"retry-after": "5"}
    return ApiError(429, message, code="resource_unavailable", type="rate_limit_error", headers=headers)


def timed_out(message: str) -> ApiError:
    """504: no answer within the call's deadline. A repeat would be a new inference, so SDKs are told not to."""
    return ApiError(504, message, code="request_timeout", type=SERVER, headers={"x-should-retry": "false"})
