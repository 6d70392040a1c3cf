"""Begins and ends the slow work of batches: validation, the merging of results, tidying up."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, Final

from ingest import batch_gather, batch_jobs, inspection
from ingest.assembly import Assembled
from ingest.batch_document import Document
from ingest.batch_jobs import Announce
from ingest.batch_line import Fault
from ingest.batch_models import Models
from ingest.batch_retry import NotInInput
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from ingest.storage import Missing, Storage

log = logging.getLogger(__name__)

AGAIN_MS: Final = 5_000


class Work:
    """At most one piece of work per batch at a time, in the threads of `executor`.

    `models` answers None while no configuration is known; nothing is validated until then. `announce` tells the log of
    the end of a batch.
    """

    def __init__(
        self,
        storage: Storage,
        executor: Executor,
        models: Callable[[], Models | None],
        announce: Announce,
        stop: threading.Event,
    ) -> None:
        self._storage = storage
        self._executor = executor
        self._models = models
        self._announce = announce
        self._stop = stop

    def advance(self, run: BatchRun, saving: bool, now_ms: int) -> bool:
        """Do what is next for a batch; whether it has left. `saving` tells that its document is being stored."""
        run.expire(now_ms)
        run.beat(now_ms)
        if run.work is not None:
            return run.work.done() and self._finish(run, run.work, now_ms)
        task = None if now_ms < run.retry_ms else self._next(run, saving)
        if task is not None:
            run.work = self._executor.submit(task)
        return False

    def _next(self, run: BatchRun, saving: bool) -> Callable[[], Any] | None:
        step = run.step()
        if step == "validate":
            if (models := self._models()) is None:
                return None
            return partial(self._validate, run.document, models)
        if saving:
            return None
        if step == "finalise" and run.ready_to_finalise:
            return partial(batch_jobs.finalise, self._storage, run.document)
        if run.ready_to_assemble:
            return partial(batch_jobs.assemble, self._storage, run.document)
        if step == "leave" and not run.dirty:
            return partial(batch_jobs.clean, self._storage, run.document, self._announce)
        return None

    def _validate(self, document: Document, models: Models) -> Verdict:
        if document.private.retry is not None:
            try:
                batch_gather.gather(self._storage, document, self._stop)
            except (Missing, NotInInput) as error:
                message = f"The lines to run again cannot be found: {error}"
                return Verdict(0, "", (Fault("invalid_request", message, "input_file_id"),))
        knows, private = models.known_at(document.batch.endpoint), document.private
        counted = any(x.on == "enqueued_tokens" for x in models.at_create(private.tenant, private.key_id))
        most = {"most": private.enqueued} if counted else {}
        return inspection.validate(self._storage, document, knows, self._stop, **most)

    def _finish(self, run: BatchRun, work: Future[Any], now_ms: int) -> bool:
        step = run.step()
        run.work = None
        try:
            result = work.result()
        except Exception as error:
            log.error("%s: could not %s: %r; again in %d ms", run.id, step, error, AGAIN_MS)
            run.retry_ms = now_ms + AGAIN_MS
            return False
        if isinstance(result, Assembled):
            run.assembled(result)
            return False
        if step == "validate":
            run.judge(result, now_ms)
        elif step == "finalise":
            run.end(result.output, result.error, now_ms)
        log.info("%s: %s, %s", run.id, run.document.batch.status, run.document.batch.request_counts)
        return step == "leave"
