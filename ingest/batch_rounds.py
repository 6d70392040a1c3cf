"""Stores what was learned, about once a second: the order here is what makes a kill at any moment harmless."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from ingest import batch_jobs
from ingest.batch_jobs import Saved, Stopped
from ingest.batch_run import BatchRun
from ingest.storage import Missing, Storage
from schemas import topics

log = logging.getLogger(__name__)

ROUND_MS: Final = 1_000
# Rounds for what cannot wait (a batch at its end, a full part) still leave S3 a pause.
SHORTEST_MS: Final = 50


class Rounds:
    """One round at a time: 1. the parts of all batches with news, 2. their documents, 3. the offsets up to which
    results had been read when the round began. So an offset is committed only when every result before it is stored.

    A batch that cannot wait is stored beside a round that is under way, without offsets: a small one must not wait at
    each of its steps until much of another is stored. The next round begins when nothing is being stored, as it must
    have all that was read.
    """

    def __init__(self, storage: Storage, executor: Executor, consumer: Consumer, stop: threading.Event) -> None:
        self._storage = storage
        self._executor = executor
        self._consumer = consumer
        self._stop = stop
        self._saves: dict[str, tuple[BatchRun, Future[Saved | None]]] = {}
        # Batches for which the running round still waits.
        self._awaited: set[str] = set()
        self._offsets: dict[int, int] = {}
        self._committed: dict[int, int] = {}
        self._running = False
        self._began_ms = 0

    def begin(self, runs: Iterable[BatchRun], offsets: Mapping[int, int], now_ms: int) -> None:
        """Begin to store what it is time for. `offsets` are the next ones to read, by partition."""
        dirty = [r for r in runs if r.dirty and r.id not in self._saves]
        if self._running or self._saves:
            # Those that cannot wait must not put off a round for ever.
            if self._running or now_ms - self._began_ms < ROUND_MS:
                for run in (r for r in dirty if r.due):
                    self._save(run, now_ms)
            return
        wait_ms = SHORTEST_MS if any(r.due for r in dirty) else ROUND_MS
        if now_ms - self._began_ms < wait_ms or (not dirty and offsets == self._committed):
            return
        self._began_ms = now_ms
        self._running = True
        self._offsets = dict(offsets)
        for run in dirty:
            self._save(run, now_ms)
            self._awaited.add(run.id)

    def _save(self, run: BatchRun, now_ms: int) -> None:
        task = partial(batch_jobs.save, self._storage, run.checkpoint(now_ms), run.etag)  # 1 and 2
        what = f"storing {run.id}"
        self._saves[run.id] = (run, self._executor.submit(batch_jobs.persist, what, task, self._stop))

    def finish(self) -> list[BatchRun]:
        """Tell batches that they are stored; if the running round is over, commit its offsets. Returns the batches that
        were lost to another batcher.
        """
        lost = []
        for batch_id, (run, future) in list(self._saves.items()):
            if not future.done():
                continue
            del self._saves[batch_id]
            if not _apply(run, future):
                lost.append(run)
                if batch_id in self._awaited:
                    self._offsets = {}  # not all of the round is stored
            self._awaited.discard(batch_id)
        if self._running and not self._awaited:
            self._running = False
            self._commit()  # 3
        return lost

    @property
    def running(self) -> bool:
        """Whether anything is being stored."""
        return self._running or bool(self._saves)

    def saving(self, run: BatchRun) -> bool:
        """Whether a batch is being stored."""
        return run.id in self._saves

    def forget(self, partitions: Iterable[int]) -> None:
        """These partitions are another batcher's now: their offsets are not ours to commit."""
        for partition in partitions:
            self._offsets.pop(partition, None)
            self._committed.pop(partition, None)

    def _commit(self) -> None:
        new = {p: o for p, o in self._offsets.items() if self._committed.get(p) != o}
        if not new:
            return
        try:
            self._consumer.commit(
                offsets=[TopicPartition(topics.BATCH_RESULTS, p, o) for p, o in new.items()], asynchronous=True
            )
        except KafkaException as error:
            log.warning("offsets were not committed, some results will be read again: %s", error)
            return
        self._committed |= new


def _apply(run: BatchRun, future: Future[Saved | None]) -> bool:
    """Tell the run what is stored; False if it is not ours any more."""
    try:
        saved = future.result()
    except (Missing, Stopped) as error:
        log.warning("%s was not stored: %r", run.id, error)
        return False
    if saved is None:
        log.warning("%s was taken over by another batcher", run.id)
        return False
    run.stored(saved.document, saved.etag)
    return True
