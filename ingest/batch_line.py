"""One line of a batch's input file: parsed, and every fault found in it named as OpenAI's users know it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec

from streams import judging

# A line is one request; the journal takes records of up to 8 MiB, so half of that leaves room for its envelope.
MAX_LINE_BYTES: Final = 4 * 1024 * 1024
MAX_CUSTOM_ID: Final = 64
BOM: Final = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A well-formed line. `body` is the request's JSON exactly as it was sent."""

    custom_id: str
    url: str
    model: str
    body: bytes


class Fault(NamedTuple):
    """Why a line (or, with line None, a file) cannot be run; the fields of OpenAI's batch error."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class _Envelope(msgspec.Struct):
    custom_id: str
    method: str
    url: str
    body: msgspec.Raw


class _Body(msgspec.Struct):
    model: str | None = None
    stream: Any = None


class GoodBody(msgspec.Struct, gc=False):
    """What validation looks at in the body of a line."""

    model: Annotated[str, msgspec.Meta(min_length=1)]
    stream: Any = None


class GoodLine(msgspec.Struct, gc=False):
    """What validation looks at in a line. `method` and `url` are not kept: they are what they must be."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_CUSTOM_ID)]
    body: GoodBody


_envelope: Final = msgspec.json.Decoder(_Envelope)
_body: Final = msgspec.json.Decoder(_Body)


def parse(raw: bytes) -> Line | Fault:
    """The line in `raw` (without its newline), or its first fault. Does not know the other lines of its file."""
    if len(raw) > MAX_LINE_BYTES:
        return Fault("invalid_request", f"The line is longer than {MAX_LINE_BYTES} bytes.")
    try:
        raw.decode()
        envelope = _envelope.decode(raw)
        body = _body.decode(envelope.body)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return _explain(raw)
    except RecursionError:
        return Fault("invalid_request", "The line is nested too deeply.")
    model = body.model or (judging.DEFAULT if envelope.url == judging.MODERATIONS else "")
    if fault := _check(envelope, model, body.stream):
        return fault
    return Line(envelope.custom_id, envelope.url, model, bytes(envelope.body))


def good_lines(url: str) -> Callable[[bytes], list[GoodLine] | None]:
    """A function that takes whole lines, each with its newline, and gives what is in them if every one is a good line
    for the endpoint `url`; None if any may not be, for `parse` to tell which and why.

    One pass of one decoder over many lines, without an object for each: ten times as fast as line by line.
    """
    fields = [("method", Literal["POST"]), ("url", Literal[url])]
    kind = msgspec.defstruct("Good", fields, bases=(GoodLine,), kw_only=True, gc=False)
    decoder: msgspec.json.Decoder[GoodLine] = msgspec.json.Decoder(kind)

    def read(lines: bytes) -> list[GoodLine] | None:
        # Where all of them together are no longer than one may be, none is too long.
        if len(lines) > MAX_LINE_BYTES:
            return None
        try:
            if not lines.isascii():
                lines.decode()
            found = decoder.decode_lines(lines)
        except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
            return None
        # As many values as newlines: no line is blank, and no value goes over several lines.
        if len(found) != lines.count(b"\n") or any(line.body.stream is True for line in found):
            return None
        return found

    return read


def body_of(raw: bytes) -> tuple[str, bytes]:
    """(custom_id, the request's JSON exactly as it was sent) of a line that was found good before.

    Raises msgspec.DecodeError on another one, which is an input that has changed since.
    """
    envelope = _envelope.decode(raw)
    return envelope.custom_id, bytes(envelope.body)


def _check(envelope: _Envelope, model: str, stream: Any) -> Fault | None:
    if not 0 < len(envelope.custom_id) <= MAX_CUSTOM_ID:
        return Fault("invalid_request", f"custom_id must have 1 to {MAX_CUSTOM_ID} characters.", "custom_id")
    if envelope.method != "POST":
        return Fault("invalid_request", "method must be POST.", "method")
    if not model:
        return Fault("invalid_request", "body.model is missing: it must name a model.", "body.model")
    if stream is True:
        return Fault("invalid_request", "stream must not be true in a batch.", "body.stream")
    return None


def _explain(raw: bytes) -> Fault:
    """The fault of a line that did not decode. Slow and thorough; only bad lines come here."""
    if raw.startswith(BOM):
        return Fault("invalid_json_line", "The file begins with a byte order mark (BOM); save it as UTF-8 without.")
    try:
        raw.decode()
        value = msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        return Fault("invalid_json_line", f"The line is not UTF-8 (byte {error.start + 1}).")
    except msgspec.DecodeError as error:
        return Fault("invalid_json_line", f"The line is not valid JSON: {error}.")
    if not isinstance(value, dict):
        return Fault("invalid_request", "The line must be a JSON object.")
    for name in ("custom_id", "method", "url"):
        if not isinstance(value.get(name), str):
            return Fault("invalid_request", f"{name} is missing or not a string.", name)
    body = value.get("body")
    if not isinstance(body, dict):
        return Fault("invalid_request", "body is missing or not an object.", "body")
    return Fault("invalid_request", "body.model is not a string.", "body.model")
