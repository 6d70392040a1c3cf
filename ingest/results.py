"""From the outcome of a line to the line of the output or error file. Pure."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple

import orjson

from ingest import responses
from schemas.records import BatchResult
from streams.responses import RESPONSES

Kind = Literal["o", "e"]
OUTPUT: Final = "o"
ERROR: Final = "e"

EXPIRED: Final = "This request could not be executed before the completion window expired."
CANCELLED: Final = "This request was not executed because its batch was cancelled."


class Outcome(NamedTuple):
    """A line number, the file it belongs to, and its JSON there, without a newline."""

    line: int
    kind: Kind
    text: bytes


def outcome(result: BatchResult, endpoint: str = "") -> Outcome:
    """Where a result of a batch for `endpoint` goes and how it is written there, as OpenAI's files have it.

    An answer (HTTP status below 400) goes to the output file; an HTTP error goes to the error file with `response`
    filled; what has no HTTP outcome goes there with `error` filled.
    """
    status = result["http_status"]
    line: dict[str, Any] = {
        "id": f"batch_req_{result['request_id'].replace('-', '')}",
        "custom_id": result["custom_id"],
        "response": None,
        "error": None,
    }
    if status == 0:
        line["error"] = _error(result)
        return Outcome(result["line"], ERROR, orjson.dumps(line))
    body = _body(result, endpoint)
    if body is None:
        line["error"] = {"code": "invalid_response", "message": "The answer was not valid JSON."}
        return Outcome(result["line"], ERROR, orjson.dumps(line))
    line["response"] = {"status_code": status, "request_id": result["request_id"], "body": body}
    return Outcome(result["line"], OUTPUT if status < 400 else ERROR, orjson.dumps(line))


def _error(result: BatchResult) -> dict[str, str]:
    if result["status"] == "expired":
        return {"code": "batch_expired", "message": EXPIRED}
    if result["status"] == "cancelled":
        return {"code": "batch_cancelled", "message": CANCELLED}
    message = result["error_message"] or "The request failed."
    return {"code": result["error_code"] or "request_failed", "message": message}


def _body(result: BatchResult, endpoint: str) -> Any:
    """The answer's JSON on one line, its bytes otherwise untouched; None if it is not JSON.

    A response was a chat on its way. What it repeats of its request is not known here, and is left as if not given.
    """
    body = result["body"]
    if not body and result["http_status"] >= 400:
        kind = "server_error" if result["http_status"] >= 500 else "invalid_request_error"
        error = {"message": result["error_message"], "type": kind, "param": None, "code": result["error_code"] or None}
        return {"error": error}
    try:
        if endpoint == RESPONSES and result["http_status"] < 400:
            body = responses.whole(body, result["request_id"], {})
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if b"\n" in body or b"\r" in body:
        # Within JSON a bare newline is white space only; a string has it escaped.
        body = body.replace(b"\n", b" ").replace(b"\r", b" ")
    return orjson.Fragment(body)
