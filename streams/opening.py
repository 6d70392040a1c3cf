"""The state record of a request, before anything is decided. Pure."""

from __future__ import annotations

from typing import Any, Final, cast

from schemas import catalogue
from schemas.records import Cancellation, Open, Request

_ZERO: Final = {"string": "", "bytes": b"", "boolean": False, "int": 0, "long": 0}
# A record with nothing decided: every field of the schema, with the zero of its type.
_FIELDS: Final = {f["name"]: f["type"] for f in catalogue.raw("Open", "state")["fields"]}
_PLAIN: Final = {name: _ZERO[kind] for name, kind in _FIELDS.items() if isinstance(kind, str)}
_LISTS: Final = tuple(name for name in _FIELDS if name not in _PLAIN)
_SAME: Final = (
    "request_id", "endpoint", "model", "key_id", "lane", "body", "received_at", "deadline", "stream", "batch_id",
    "line", "custom_id", "correlation_id", "repeatable",
)  # fmt: skip


def blank(request_id: str, **fields: Any) -> Open:
    """A record with nothing decided but `fields`."""
    lists: dict[str, Any] = {name: [] for name in _LISTS}
    return cast(Open, {**_PLAIN, **lists, "request_id": request_id, "phase": "new", **fields})


def opened(r: Request) -> Open:
    """Of a request just read."""
    same: dict[str, Any] = {name: r[name] for name in _SAME}  # type: ignore[literal-required]
    return blank(**same, requested_model=r["model"], reply_to=[r["reply_to"]] if r["reply_to"] else [])


def never_submitted(c: Cancellation) -> Open:
    """Of a line whose cancellation is its first mention."""
    return blank(
        c["request_id"],
        requested_model=c["model"],
        model=c["model"],
        key_id=c["key_id"],
        lane="batch" if c["batch_id"] else "interactive",
        received_at=c["received_at"],
        batch_id=c["batch_id"],
        line=c["line"],
        custom_id=c["custom_id"],
    )
