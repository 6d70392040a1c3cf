"""The lake's row of an ended batch."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from ingest import batch_object
from ingest.batch_document import Document, Kinds, Retry
from ingest.batch_line import Fault
from ingest.batch_object import Counts
from ingest.batch_rows import row
from schemas.wire import Codec
from tests.unit.test_batch_progress import BATCH, DOCUMENT


def ended(ending="completed", output="file-o", error=None, **private):
    batch = batch_object.started(BATCH, 10, "echo", 110)
    batch = replace(batch, request_counts=Counts(10, 7, 3), usage=batch.usage.plus(30, 5, 20, 2))
    return Document(batch_object.ended(batch, ending, output, error, 400), replace(DOCUMENT.private, **private))


def test_a_batch_that_completed():
    made = row(ended(kinds=Kinds(1, 0)))
    codec = Codec.offline()
    assert codec.decode(codec.encode("Batch", made)) == ("Batch", made)
    assert made["window_s"] == 86_400 and made["model"] == "echo" and made["status"] == "completed"
    assert [made[f"{n}lines"] for n in ("", "completed_", "failed_", "expired_", "cancelled_")] == [10, 7, 3, 1, 0]
    assert [made[f"{n}_tokens"] for n in ("input", "cached", "output", "reasoning")] == [30, 5, 20, 2]
    assert [made[f"{n}_at"] for n in ("created", "started", "deadline", "ended")] == [
        100_000, 110_000, 86_500_000, 400_000,
    ]  # fmt: skip
    assert (made["output_file_id"], made["error_file_id"], made["retry_of"]) == ("file-o", "", "")


def test_a_batch_whose_input_is_bad_says_why_and_began_never():
    bad = batch_object.failed(BATCH, [Fault("empty_file", "It is empty.", None)], 120)
    made = row(replace(DOCUMENT, batch=bad))
    assert (made["status"], made["error_code"], made["model"], made["lines"]) == ("failed", "empty_file", "", 0)
    assert made["started_at"] == made["ended_at"] == 120_000


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_the_end_is_that_of_its_status(ending):
    assert row(ended(ending))["ended_at"] == 400_000


def test_a_retry_names_the_batch_before_it():
    assert row(ended(retry=Retry("batch_0", "f", "g", ("failed",))))["retry_of"] == "batch_0"


def test_a_batch_that_runs_has_no_row():
    with pytest.raises(AssertionError):
        row(DOCUMENT)
