"""The row of an ended batch for the lake, written to the topic `batches` before the batcher lets go of it. Pure."""

from __future__ import annotations

from typing import Any

from ingest.batch_document import Document, Kinds


def row(document: Document) -> dict[str, Any]:
    """The Batch record of a document whose batch has ended."""
    assert document.terminal, "only an ended batch has a row"
    batch, private = document.batch, document.private
    kinds, usage, counts = private.kinds or Kinds(), batch.usage, batch.request_counts
    ends = (batch.completed_at, batch.failed_at, batch.expired_at, batch.cancelled_at)
    ended_ms = 1_000 * max(at for at in ends if at is not None)
    faults = batch.errors.data if batch.errors is not None else ()
    return {
        "batch_id": batch.id,
        "tenant": private.tenant,
        "key_id": private.key_id,
        "endpoint": batch.endpoint,
        "model": batch.model or "",
        "status": batch.status,
        "window_s": (private.deadline_ms - private.created_ms) // 1_000,
        "lines": counts.total,
        "completed_lines": counts.completed,
        "failed_lines": counts.failed,
        "expired_lines": kinds.expired,
        "cancelled_lines": kinds.cancelled,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.input_tokens_details.cached_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.output_tokens_details.reasoning_tokens,
        "input_file_id": batch.input_file_id,
        "output_file_id": batch.output_file_id or "",
        "error_file_id": batch.error_file_id or "",
        "error_code": faults[0].code if faults else "",
        "retry_of": private.retry.batch_id if private.retry is not None else "",
        "created_at": private.created_ms,
        "started_at": 1_000 * batch.in_progress_at if batch.in_progress_at is not None else ended_ms,
        "deadline_at": private.deadline_ms,
        "ended_at": ended_ms,
    }
