"""The batch of the demo, through the `openai` SDK as it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from openai import OpenAI
from openai.types import Batch

from examples.tickets import Unmet

ENDED: Final = ("completed", "failed", "expired", "cancelled")
POLL_S: Final = 0.5
# The dataset takes half a minute on two cores; this is for a machine that is busy with other things.
TIMEOUT_S: Final = 480.0

Show = Callable[[int, int, str], None]


def start(client: OpenAI, file: Path) -> Batch:
    """Upload the file and order its batch."""
    uploaded = client.files.create(file=file, purpose="batch")
    return client.batches.create(
        input_file_id=uploaded.id,
        endpoint="/v1/chat/completions",
        completion_window="24h",
        metadata={"name": file.name},
    )


def follow(client: OpenAI, batch_id: str, total: int, show: Show, stop: threading.Event) -> Batch:
    """The batch at its end; `show` is told (done, total, status). Raises Unmet if it does not complete in time."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        batch = client.batches.retrieve(batch_id)
        counts = batch.request_counts
        done = counts.completed + counts.failed if counts else 0
        show(done, total, batch.status)
        if batch.status == "completed":
            return batch
        if batch.status in ENDED:
            faults = batch.errors.data if batch.errors and batch.errors.data else []
            why = "; ".join(f"line {f.line}: {f.message}" for f in faults[:3])
            raise Unmet(f"{batch_id} ended as {batch.status}{': ' if why else ''}{why}")
        if time.monotonic() > deadline:
            raise Unmet(f"{batch_id} is {batch.status}, {done} of {total} lines, after {TIMEOUT_S:.0f} s: `make logs`")
        if stop.wait(POLL_S):
            raise Unmet(f"{batch_id} was not awaited to its end")


def content(client: OpenAI, file_id: str | None) -> str:
    """A file as text; empty if there is none."""
    return client.files.content(file_id).text if file_id else ""
