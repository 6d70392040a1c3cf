"""A batch of the API, in words. Pure."""

from __future__ import annotations

from typing import Any, Final

from rich.table import Table

from ingest.cli import quantities

ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
MOMENTS: Final = (
    "created_at",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
    "expires_at",
)
SHOWN_ERRORS: Final = 10


def state(batch: dict[str, Any]) -> str:
    """Its status, and whether it is held back."""
    return f"{batch['status']}, paused" if (batch.get("millrace") or {}).get("paused") else str(batch["status"])


def lines(batch: dict[str, Any]) -> str:
    """How many of its lines have their outcome."""
    counts = batch["request_counts"]
    done = counts["completed"] + counts["failed"]
    failed = f" ({quantities.count(counts['failed'])} failed)" if counts["failed"] else ""
    return f"{quantities.count(done)}/{quantities.count(counts['total'])}{failed}"


def name(batch: dict[str, Any]) -> str:
    """What its owner calls it: the metadata `name`, or all metadata."""
    metadata = batch.get("metadata") or {}
    return str(metadata.get("name") or " ".join(f"{k}={v}" for k, v in metadata.items()))


def why(batch: dict[str, Any]) -> str:
    """Why it waits, or why it failed; empty where neither is so."""
    if waiting := (batch.get("millrace") or {}).get("waiting"):
        until = f" Until {quantities.moment(waiting['until'])}." if waiting.get("until") else ""
        return f"{waiting['message']}{until}"
    faults = (batch.get("errors") or {}).get("data") or []
    return "; ".join(map(fault, faults[:3])) + (f"; and {len(faults) - 3} more" if len(faults) > 3 else "")


def fault(error: dict[str, Any]) -> str:
    """One fault of the input file."""
    where = f"line {error['line']}: " if error.get("line") else ""
    return f"{where}{error['message']} ({error['code']})"


def listing(batches: list[dict[str, Any]]) -> Table:
    """Many batches, one a row."""
    table = Table("batch", "status", "lines", "model", "created", "name", box=None, pad_edge=False)
    for batch in batches:
        created = quantities.moment(batch["created_at"])
        table.add_row(batch["id"], state(batch), lines(batch), batch.get("model") or "-", created, name(batch))
    return table


def detail(batch: dict[str, Any]) -> Table:
    """One batch, all that is known of it."""
    table = Table.grid(padding=(0, 2))
    progress, usage = batch.get("millrace") or {}, batch.get("usage") or {}
    rows: list[tuple[str, str]] = [
        ("batch", batch["id"]),
        ("status", state(batch)),
        ("lines", lines(batch)),
        ("model", batch.get("model") or "-"),
        ("endpoint", batch["endpoint"]),
        ("window", batch["completion_window"]),
        ("input", batch["input_file_id"]),
        ("results", batch.get("output_file_id") or "-"),
        ("errors", batch.get("error_file_id") or "-"),
        ("tokens", f"{usage.get('input_tokens', 0):,} in, {usage.get('output_tokens', 0):,} out"),
    ]
    if progress.get("estimated_completion_at"):
        rows.append(("done about", quantities.moment(progress["estimated_completion_at"])))
    if progress.get("waiting"):
        rows.append(("waits", why(batch)))
    if progress.get("retry_of"):
        rows.append(("retry of", progress["retry_of"]))
    if progress.get("retried_by"):
        rows.append(("retried by", ", ".join(progress["retried_by"])))
    rows += [(at.removesuffix("_at"), quantities.moment(batch[at])) for at in MOMENTS if batch.get(at)]
    rows += [("metadata", f"{key}={value}") for key, value in (batch.get("metadata") or {}).items()]
    faults = (batch.get("errors") or {}).get("data") or []
    rows += [("fault", fault(error)) for error in faults[:SHOWN_ERRORS]]
    if len(faults) > SHOWN_ERRORS:
        rows.append(("", f"and {len(faults) - SHOWN_ERRORS} more: --json shows them all"))
    for row in rows:
        table.add_row(*row)
    return table
