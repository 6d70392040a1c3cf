"""The batch as OpenAI's API shows it, and its way from one status to the next. Pure: times are arguments.

Status: validating → failed | in_progress → finalizing → completed; in_progress → expired; cancelling → cancelled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from ingest.batch_line import Fault

Status = Literal["validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"]
Ending = Literal["completed", "expired", "cancelled"]
Reason = Literal[
    "validating",
    "not_configured",
    "paused",
    "pool_unavailable",
    "quota",
    "other_batches_first",
    "capacity",
    "admission",
]
ENDPOINTS: Final = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/moderations", "/v1/responses")
TERMINAL: Final = frozenset({"completed", "failed", "expired", "cancelled"})

MAX_WINDOW_S: Final = 7 * 86_400
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_WINDOW: Final = re.compile(r"([1-9][0-9]{0,6})([smhd])", re.ASCII)

MAX_PAIRS: Final = 16
MAX_KEY: Final = 64
MAX_VALUE: Final = 512


class Counts(msgspec.Struct, frozen=True):
    """Lines of a batch. `completed` have an answer, `failed` an error; the rest is still to come."""

    total: int = 0
    completed: int = 0
    failed: int = 0


class InputDetails(msgspec.Struct, frozen=True):
    """Part of Usage."""

    cached_tokens: int = 0


class OutputDetails(msgspec.Struct, frozen=True):
    """Part of Usage."""

    reasoning_tokens: int = 0


class Usage(msgspec.Struct, frozen=True):
    """Tokens of all lines that have their outcome."""

    input_tokens: int = 0
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int = 0

    def plus(self, input_tokens: int, cached: int, output_tokens: int, reasoning: int) -> Usage:
        """With one more line's tokens."""
        return Usage(
            self.input_tokens + input_tokens,
            InputDetails(self.input_tokens_details.cached_tokens + cached),
            self.output_tokens + output_tokens,
            OutputDetails(self.output_tokens_details.reasoning_tokens + reasoning),
            self.total_tokens + input_tokens + output_tokens,
        )


class BatchError(msgspec.Struct, frozen=True):
    """One fault of the input file."""

    code: str
    message: str
    param: str | None
    line: int | None


class BatchErrors(msgspec.Struct, frozen=True):
    """OpenAI's list of faults."""

    data: tuple[BatchError, ...]
    object: Literal["list"] = "list"


class Waiting(msgspec.Struct, frozen=True):
    """Why no line begins now: the reason, in words, and where it can be known, until when (Unix seconds)."""

    reason: Reason
    message: str
    until: int | None = None


class Progress(msgspec.Struct, frozen=True):
    """Our own part of the object: lines on their way, results per second, when it will be done (Unix seconds), whether
    its owner holds it back, what it waits for, and which batches ran its lines before and after.
    """

    open_lines: int = 0
    lines_per_second: float = 0.0
    estimated_completion_at: int | None = None
    paused: bool = False
    waiting: Waiting | None = None
    retry_of: str | None = None
    retried_by: tuple[str, ...] = ()


class Batch(msgspec.Struct, frozen=True):
    """OpenAI's batch object. Times are Unix seconds; what is absent is null."""

    id: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    object: Literal["batch"] = "batch"
    model: str | None = None
    errors: BatchErrors | None = None
    status: Status = "validating"
    output_file_id: str | None = None
    error_file_id: str | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts = Counts()
    usage: Usage = Usage()
    metadata: dict[str, str] | None = None
    millrace: Progress | None = None


VALIDATING: Final = Waiting("validating", "Its input file waits to be read, or is being read.")
PAUSED: Final = Waiting("paused", "It was paused. It goes on when it is resumed; its window ends all the same.")


def window_s(text: object) -> int | None:
    """Seconds of a completion window such as 24h; None if it is not one of up to seven days."""
    match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        return None
    seconds = int(match[1]) * _UNITS[match[2]]
    return seconds if seconds <= MAX_WINDOW_S else None


def metadata_fault(value: Any) -> str | None:
    """What is wrong with a batch's metadata; None if nothing is."""
    if value is None:
        return None
    if not isinstance(value, dict):
        return "metadata must be an object."
    if len(value) > MAX_PAIRS:
        return f"metadata may have at most {MAX_PAIRS} pairs."
    for key, item in value.items():
        if not isinstance(item, str):
            return f"metadata.{key} must be a string."
        if len(key) > MAX_KEY or len(item) > MAX_VALUE:
            return f"metadata keys may have {MAX_KEY} characters, values {MAX_VALUE}."
    return None


def started(batch: Batch, total: int, model: str, now_s: int) -> Batch:
    """The batch after a good validation. One that is being cancelled stays so."""
    status: Status = "in_progress" if batch.status == "validating" else batch.status
    return replace(batch, status=status, model=model, in_progress_at=now_s, request_counts=Counts(total=total))


def failed(batch: Batch, faults: Sequence[Fault], now_s: int) -> Batch:
    """The batch after a bad validation. One that was being cancelled is cancelled, with its faults."""
    errors = BatchErrors(tuple(BatchError(f.code, f.message, f.param, f.line) for f in faults))
    # It waits for nothing any more; what it was a retry of stays known.
    retry_of = batch.millrace.retry_of if batch.millrace is not None else None
    batch = replace(batch, millrace=Progress(retry_of=retry_of) if retry_of is not None else None)
    if batch.status == "cancelling":
        return replace(batch, status="cancelled", cancelled_at=now_s, errors=errors)
    return replace(batch, status="failed", failed_at=now_s, errors=errors)


def can_cancel(batch: Batch) -> bool:
    """Whether there is still something to cancel, or it is being cancelled already."""
    return batch.status in ("validating", "in_progress", "cancelling")


def cancelling(batch: Batch, now_s: int) -> Batch:
    """The batch from the moment its cancellation was asked for. Asking again changes nothing."""
    assert can_cancel(batch)
    return batch if batch.status == "cancelling" else replace(batch, status="cancelling", cancelling_at=now_s)


def can_pause(batch: Batch) -> bool:
    """Whether there may be lines to hold back, or to let go on."""
    return batch.status in ("validating", "in_progress")


def paused(batch: Batch) -> Batch:
    """The batch as it is shown from the moment it is held back."""
    progress = batch.millrace or Progress()
    return replace(batch, millrace=replace(progress, paused=True, waiting=PAUSED, estimated_completion_at=None))


def resumed(batch: Batch) -> Batch:
    """The batch as it is shown from the moment it goes on."""
    if batch.millrace is None or not batch.millrace.paused:
        return batch
    return replace(batch, millrace=replace(batch.millrace, paused=False, waiting=None))


def finalizing(batch: Batch, now_s: int) -> Batch:
    """The batch once every line has its outcome. A cancelled one goes on being `cancelling`."""
    return batch if batch.status == "cancelling" else replace(batch, status="finalizing", finalizing_at=now_s)


def ended(batch: Batch, ending: Ending, output: str | None, error: str | None, now_s: int) -> Batch:
    """The batch at its end, with the ids of its files."""
    files = replace(batch, status=ending, output_file_id=output, error_file_id=error, millrace=None)
    if ending == "completed":
        return replace(files, completed_at=now_s)
    if ending == "expired":
        return replace(files, expired_at=now_s)
    return replace(files, cancelled_at=now_s)
