"""A batch that has not ended, as the batcher holds it in memory: its progress and what to do next. Does no I/O."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from msgspec.structs import replace

from ingest import assembly, batch_document, batch_object, parts, results
from ingest.batch_document import Document, Kinds
from ingest.batch_object import Counts, Progress, Waiting
from ingest.batch_outlook import Outlook
from ingest.batch_validation import Verdict
from ingest.bitmap import Bitmap
from ingest.results import Outcome
from ingest.window import Rate
from schemas.records import BatchResult

if TYPE_CHECKING:
    from ingest.input_reader import InputReader

Step = Literal["validate", "feed", "sweep", "finalise", "leave"]

PART_OUTCOMES: Final = 2_000
PART_BYTES: Final = 16 * 1024 * 1024
# An order is announced by a command. One whose command was lost is met at the next put, which comes in any case.
BEAT_MS: Final = 30_000


class Checkpoint(NamedTuple):
    """What has to be stored now: a part (if there are new outcomes), then the document that counts it in."""

    part_key: str
    part: bytes
    document: Document


class BatchRun:
    """One batch. `document` and `etag` are what is stored; everything else is newer.

    `open` maps each line that was sent and has no outcome yet to its offset in the input file. `position` is the
    (line, offset) of the next line to send; whoever sends moves it, and keeps its `reader` here.
    """

    def __init__(self, document: Document, etag: str) -> None:
        self.document = document
        self.etag = etag
        self.id = document.batch.id
        self.tenant = document.private.tenant
        self.open: dict[int, int] = {}
        self.position = (document.private.line, document.private.offset)
        self.reader: InputReader | None = None
        self.sent_ms = 0
        self.bitmap = Bitmap.decode(document.private.done, document.batch.request_counts.total)
        self.rate = Rate()
        self.urgent = False
        self.work: Future[Any] | None = None
        self.retry_ms = 0
        self._outcomes: list[Outcome] = []
        self._bytes = 0
        self._completed = document.batch.request_counts.completed
        self._failed = document.batch.request_counts.failed
        self._usage = document.batch.usage
        kinds = document.private.kinds or Kinds()
        self.waiting: Waiting | None = None
        self.done_ms: int | None = None
        self.moved_ms = 0
        self._stale = False
        self._unrun = Counter(expired=kinds.expired, cancelled=kinds.cancelled)
        self._sequence = 0
        self._stored_ms = 0
        self._stored = (0, 0)
        if document.batch.status == "cancelling" and document.private.ending != "cancelled":
            self._end_as("cancelled")

    @property
    def bytes(self) -> int:
        """Bytes of outcomes that are not stored yet."""
        return self._bytes

    @property
    def dirty(self) -> bool:
        """Whether there is something to store."""
        return self.urgent or self._stale or bool(self._outcomes)

    @property
    def due(self) -> bool:
        """Whether it should be stored at once."""
        return self.urgent or len(self._outcomes) >= PART_OUTCOMES or self._bytes >= PART_BYTES

    def step(self) -> Step:
        """What the batch needs now."""
        if self.document.terminal:
            return "leave"
        if not self.document.private.validated:
            return "validate"
        if self.bitmap.full:
            return "finalise"
        return "feed" if self.document.private.ending == "completed" else "sweep"

    @property
    def ready_to_finalise(self) -> bool:
        """Whether all that was learned is stored, with the moment that dates the output files."""
        return self.step() == "finalise" and not self.dirty and self.document.private.ended_ms > 0

    @property
    def ready_to_assemble(self) -> bool:
        """Whether enough contiguous outcomes are stored to add them to the files. Ask while nothing is being stored."""
        count, size = self._stored
        if not count or self.step() != "feed":
            return False
        private = self.document.private
        lines = Bitmap.low_of(private.done) - assembly.through(private.assembly)
        return lines * size // count >= assembly.STEP_BYTES

    def assembled(self, step: assembly.Assembled) -> None:
        """A step of the files is made; the next checkpoint says so."""
        self.document = replace(self.document, private=replace(self.document.private, assembly=step.key))

    def take(self, result: BatchResult, now_ms: int) -> bool:
        """Keep the outcome of a line. The first one counts; a repetition changes nothing and gives False."""
        line = result["line"]
        if not self.document.private.validated or not 1 <= line <= self.bitmap.total or not self.bitmap.add(line):
            return False
        self.open.pop(line, None)
        outcome = results.outcome(result, self.document.batch.endpoint)
        self._outcomes.append(outcome)
        self._bytes += len(outcome.text)
        if outcome.kind == results.OUTPUT:
            self._completed += 1
        else:
            self._failed += 1
            self._unrun[result["status"]] += 1
        self._usage = self._usage.plus(
            result["input_tokens"], result["cached_tokens"], result["output_tokens"], result["reasoning_tokens"]
        )
        self.rate.add(1, now_ms)
        self.moved_ms = now_ms
        self.urgent |= self.bitmap.full
        return True

    def judge(self, verdict: Verdict, now_ms: int) -> None:
        """Go on after validation: to work, or to the end."""
        if verdict.faults:
            batch = batch_object.failed(self.document.batch, verdict.faults, now_ms // 1000)
        else:
            batch = batch_object.started(self.document.batch, verdict.total, verdict.model, now_ms // 1000)
            self.bitmap = Bitmap(verdict.total)
        private = replace(self.document.private, validated=not verdict.faults)
        self.document = Document(batch, private)
        self.urgent = True

    def expire(self, now_ms: int) -> bool:
        """Whether the window has just ended with lines open: from now on they are swept up."""
        if self.step() != "feed" or now_ms < self.document.private.deadline_ms:
            return False
        self._end_as("expired")
        return True

    @property
    def held(self) -> bool:
        """Whether its owner wants no further line sent."""
        return self.document.private.paused_ms > 0 and self.step() == "feed"

    def beat(self, now_ms: int) -> None:
        """Have it stored now and then, also while nothing happens."""
        if not self._stored_ms:
            self._stored_ms = now_ms
        self.urgent |= now_ms - self._stored_ms >= BEAT_MS and self.step() == "feed"

    @property
    def progress(self) -> tuple[int, int]:
        """Lines that have their outcome, and the tokens they took."""
        return self.bitmap.count, self._usage.total_tokens

    def look(self, outlook: Outlook) -> None:
        """Show why the batch waits and when it will be done; what is news is stored in the next round."""
        self._stale |= outlook.waiting != self.waiting or (outlook.done_ms is None) != (self.done_ms is None)
        self.waiting, self.done_ms = outlook

    def end(self, output: str | None, error: str | None, now_ms: int) -> None:
        """Both files are written: this is the batch's end."""
        batch = batch_object.ended(self.document.batch, self.document.private.ending, output, error, now_ms // 1000)
        if (retry := self.document.private.retry) is not None:
            batch = replace(batch, millrace=Progress(retry_of=retry.batch_id))
        self.document = replace(self.document, batch=batch)
        self.urgent = True

    def rewind(self) -> None:
        """Send every line again that has no outcome. Admission knows lines by their id, so none runs twice."""
        self.open.clear()
        self.reader = None
        self.position = (self.document.private.line, self.document.private.offset)

    @property
    def all_sent(self) -> bool:
        """Whether no line is left to be sent."""
        return self.position[0] > self.bitmap.total

    def checkpoint(self, now_ms: int) -> Checkpoint:
        """What to store now; from here on it is not dirty."""
        outcomes, self._outcomes, self._bytes = self._outcomes, [], 0
        self.urgent = self._stale = False
        self._stored_ms = now_ms
        private = self.document.private
        key, part, runs = "", b"", private.parts
        if outcomes:
            outcomes.sort()
            key = parts.key(self.id, private.epoch, self._sequence, outcomes[0].line, outcomes[-1].line)
            part = parts.encode(outcomes)
            self._stored = (self._stored[0] + len(outcomes), self._stored[1] + len(part))
            runs = batch_document.with_part(runs, private.epoch, self._sequence)
            self._sequence += 1
        line, offset = self._low()
        private = replace(
            private, revision=private.revision + 1, done=self.bitmap.encode(), line=line, offset=offset, parts=runs
        )
        if private.kinds is not None:
            private = replace(private, kinds=Kinds(self._unrun["expired"], self._unrun["cancelled"]))
        batch = self._shown(now_ms)
        if self.step() == "finalise" and not private.ended_ms:
            batch = batch_object.finalizing(batch, now_ms // 1000)
            private = replace(private, ended_ms=now_ms)
        self.document = Document(batch, private)
        return Checkpoint(key, part, self.document)

    def stored(self, document: Document, etag: str) -> None:
        """The checkpoint is stored, as `document`: with the orders that had come meanwhile."""
        self.etag = etag
        if self.document.terminal:
            return
        cancelled = document.batch.status == "cancelling" and self.document.private.ending != "cancelled"
        self.document = batch_document.adopt(self.document, document)
        if cancelled:
            self._end_as("cancelled")
        elif self.held:
            self.reader = None  # what it has read ahead would only take memory

    def _end_as(self, ending: batch_object.Ending) -> None:
        self.document = replace(self.document, private=replace(self.document.private, ending=ending))
        self.rewind()
        self.urgent = True

    def _low(self) -> tuple[int, int]:
        """Where to read on after a restart: the first line without an outcome."""
        low = self.bitmap.low + 1
        return (low, self.open[low]) if low in self.open else self.position

    def _shown(self, now_ms: int) -> batch_object.Batch:
        """The API's object with live numbers."""
        if self.document.terminal:
            return self.document.batch
        retry = self.document.private.retry
        progress = Progress(retry_of=retry.batch_id if retry else None)
        if not self.document.private.validated:
            batch = replace(self.document.batch, millrace=replace(progress, waiting=self.waiting))
            return batch_object.paused(batch) if self.document.private.paused_ms else batch
        counts = Counts(self.bitmap.total, self._completed, self._failed)
        progress = replace(
            progress,
            open_lines=len(self.open),
            lines_per_second=round(self.rate.per_second(now_ms), 1),
            estimated_completion_at=None if self.done_ms is None else self.done_ms // 1000,
            waiting=self.waiting if self.step() == "feed" else None,
        )
        batch = replace(self.document.batch, request_counts=counts, usage=self._usage, millrace=progress)
        return batch_object.paused(batch) if self.held else batch
