"""Takes over batches that have not ended: at a command, when partitions become ours, and now and then by looking."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final

from ingest import batch_jobs, ids, places
from ingest.batch_jobs import Announce, Saved, Stopped
from ingest.storage import Missing, Storage, StorageError

log = logging.getLogger(__name__)

# Commands only save waiting: a batch whose command was lost is found within this time.
SCAN_MS: Final = 5_000

Mark = tuple[str, str]


class Claims:
    """Batches being taken over, in the threads of `executor`. `ours` tells whether a batch id is ours to serve;
    `announce` tells the log of the end of one that has ended.
    """

    def __init__(
        self,
        storage: Storage,
        executor: Executor,
        ours: Callable[[str], bool],
        announce: Announce,
        stop: threading.Event,
    ) -> None:
        self._storage = storage
        self._executor = executor
        self._ours = ours
        self._announce = announce
        self._stop = stop
        self._claims: dict[str, Future[Saved | None]] = {}
        self._scan: Future[list[Mark]] | None = None
        self._scanned_ms = 0

    def __len__(self) -> int:
        return len(self._claims)

    def start(self, tenant: str, batch_id: str) -> None:
        """Take a batch over if it is ours and not being taken over already."""
        if ids.is_id(ids.BATCH, batch_id) and self._ours(batch_id) and batch_id not in self._claims:
            task = partial(batch_jobs.claim, self._storage, tenant, batch_id, self._announce)
            what = f"taking over {batch_id}"
            self._claims[batch_id] = self._executor.submit(batch_jobs.persist, what, task, self._stop)

    def all_now(self, known: Callable[[str], bool]) -> None:
        """Take over every open batch that is ours and not `known`, and wait for it. Raises Stopped."""
        for tenant, batch_id in batch_jobs.persist("looking for open batches", self._marks, self._stop):
            if not known(batch_id):
                self.start(tenant, batch_id)
        for claim in self._claims.values():
            claim.exception()

    def look(self, known: Callable[[str], bool], now_ms: int) -> None:
        """Now and then look for open batches that are not `known`."""
        if self._scan is None:
            if now_ms - self._scanned_ms >= SCAN_MS:
                self._scanned_ms = now_ms
                self._scan = self._executor.submit(self._marks)
            return
        if not self._scan.done():
            return
        scan, self._scan = self._scan, None
        try:
            marks = scan.result()
        except StorageError as error:
            log.warning("open batches cannot be listed: %s", error)
            return
        for tenant, batch_id in marks:
            if not known(batch_id):
                self.start(tenant, batch_id)

    def collect(self) -> list[Saved]:
        """Batches that are ours from now on."""
        taken = []
        for batch_id, future in [(b, f) for b, f in self._claims.items() if f.done()]:
            del self._claims[batch_id]
            try:
                saved = future.result()
            except (Missing, Stopped) as error:
                log.info("%s is not taken over: %r", batch_id, error)
                continue
            except Exception as error:
                # One document that cannot be read must not keep the others from being served.
                log.error("%s cannot be taken over: %r", batch_id, error)
                continue
            if saved is not None and self._ours(batch_id):
                taken.append(saved)
        return taken

    def _marks(self) -> list[Mark]:
        return [places.of_open_batch(key) for key in self._storage.keys(places.OPEN)]
