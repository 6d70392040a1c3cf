"""Running again what has no answer in an ended batch: which lines, under which conditions. Pure.

No line is run again twice: what a retry took is written into the document of the batch that it is of, under a
condition, before the retry exists. Whoever wants to run a line a third time retries the retry.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from ingest.batch_document import KINDS, Document, Kind, Retried
from ingest.batch_object import Progress


class Refused(Exception):
    """It cannot be retried. `code` tells why in a word; `by` names the batch that has its lines, if one does."""

    def __init__(self, code: str, message: str, by: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.by = by


class NotInInput(Exception):
    """A line of the error file is none of the input file's: one of them is not what it was."""


def read_only(value: Any) -> tuple[Kind, ...] | None:
    """The kinds of lines asked for; None for all there are. Raises ValueError."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(kind in KINDS for kind in value):
        raise ValueError(f"only must be a list of {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in value)


def take(
    document: Document, only: tuple[Kind, ...] | None, batch_id: str, void: Container[str] = ()
) -> tuple[Document, Retried]:
    """The document with the lines given to the retry `batch_id`, and which they are. Repeating it changes nothing.

    `only` are the kinds of lines; None for all that no other has taken. Retries in `void` have run nothing. Raises
    Refused.
    """
    retries = tuple(r for r in document.private.retries if r.batch_id not in void)
    if mine := next((r for r in retries if r.batch_id == batch_id), None):
        return document, mine
    batch = document.batch
    if not document.terminal:
        raise Refused("batch_not_ended", f"The batch is {batch.status}: its lines can be retried when it has ended.")
    if batch.status == "failed":
        raise Refused("nothing_to_retry", "The input file failed validation and nothing ran: correct it, create anew.")
    there = tuple(kind for kind in only or KINDS if _count(document, kind))
    if not there:
        what = " or ".join(only or KINDS)
        raise Refused("nothing_to_retry", f"No line of the batch ended as {what}.")
    taken = {kind: r.batch_id for r in retries for kind in r.only}
    left = tuple(kind for kind in there if kind not in taken)
    if not left or (only and left != there):
        by = next(taken[kind] for kind in there if kind in taken)
        raise Refused("already_retried", f"These lines are run again by {by}; retry that one.", by)
    made = Retried(batch_id, left)
    retries = (*retries, made)
    shown = replace(batch.millrace or Progress(), retried_by=tuple(r.batch_id for r in retries))
    return Document(replace(batch, millrace=shown), replace(document.private, retries=retries)), made


def _count(document: Document, kind: Kind) -> int:
    """Lines of a kind; 1 for some where nobody counted."""
    failed = document.batch.request_counts.failed if document.batch.error_file_id else 0
    kinds = document.private.kinds
    if kinds is None or not failed:
        return min(failed, 1)
    if kind == "failed":
        return failed - kinds.expired - kinds.cancelled
    return kinds.expired if kind == "expired" else kinds.cancelled


def lines(document: Document, only: Iterable[Kind]) -> int | None:
    """How many lines of these kinds a batch has; None where nobody counted."""
    return None if document.private.kinds is None else sum(_count(document, kind) for kind in only)


class _Error(msgspec.Struct):
    code: str = ""


class _ErrorLine(msgspec.Struct):
    custom_id: str
    error: _Error | None = None


class _InputLine(msgspec.Struct):
    custom_id: str


_error_line: Final = msgspec.json.Decoder(_ErrorLine)
_input_line: Final = msgspec.json.Decoder(_InputLine)
_CODES: Final[dict[str, Kind]] = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


def wanted(errors: Iterable[bytes], only: Container[Kind]) -> Iterator[str]:
    """Custom ids of the lines of an error file that are of these kinds, in order."""
    for raw in errors:
        line = _error_line.decode(raw)
        if _CODES.get(line.error.code if line.error else "", "failed") in only:
            yield line.custom_id


def pick(inputs: Iterable[bytes], custom_ids: Iterator[str]) -> Iterator[bytes]:
    """Lines of the input that have these custom ids. Both are in the order of the input, so one pass of both does it.

    Raises NotInInput.
    """
    custom_id = next(custom_ids, None)
    for raw in inputs:
        if custom_id is None:
            return
        if _input_line.decode(raw).custom_id == custom_id:
            yield raw
            custom_id = next(custom_ids, None)
    if custom_id is not None:
        raise NotInInput(custom_id)
