"""Why a command failed."""

from __future__ import annotations

from typing import Any


class Fault(Exception):
    """What was asked for cannot be had. The message is for a person; the rest is the API's error, if it is one."""

    def __init__(self, message: str, *, code: str = "failed", status: int = 0, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.status = status
        self.param = param

    def document(self) -> dict[str, Any]:
        """As --json shows it. `status` is the HTTP status, 0 where there was none."""
        error = {"message": self.message, "code": self.code, "param": self.param, "status": self.status}
        return {"error": error}
