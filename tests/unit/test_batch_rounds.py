"""What is stored when: rounds, batches that cannot wait beside them, and the offsets that follow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, cast

from confluent_kafka import Consumer, TopicPartition
from msgspec.structs import replace

from ingest import batch_document, places
from ingest.batch_document import Document
from ingest.batch_rounds import ROUND_MS, Rounds
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from ingest.storage import Storage
from tests.unit.bucket import Bucket
from tests.unit.test_batch_progress import DOCUMENT, result

NOW = 1_000_000


class Hands(Executor):
    """Carries out a task when it is told to."""

    def __init__(self) -> None:
        self.tasks: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, call: Any, /, *arguments: Any, **_: Any) -> Any:
        future: Future[Any] = Future()
        self.tasks.append((future, lambda: call(*arguments)))
        return future

    def do(self, number: int = 0) -> None:
        """Carry out one of the tasks that wait."""
        future, task = self.tasks.pop(number)
        future.set_result(task())


class Offsets:
    """A consumer that is told what to commit."""

    def __init__(self) -> None:
        self.committed: list[dict[int, int]] = []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> None:
        self.committed.append({x.partition: x.offset for x in offsets})


class World:
    """Two batches of a hundred lines, all of them stored and at work."""

    def __init__(self) -> None:
        self.hands, self.offsets = Hands(), Offsets()
        self.storage = Storage(Bucket(), "b")
        self.rounds = Rounds(self.storage, self.hands, cast(Consumer, self.offsets), threading.Event())
        self.big, self.small = self._run("batch_1"), self._run("batch_2")
        self.begin(0)
        self.hands.do()
        self.hands.do()
        assert self.rounds.finish() == [] and self.offsets.committed == [{0: 0}]
        self.offsets.committed.clear()

    def _run(self, batch_id: str) -> BatchRun:
        document = Document(replace(DOCUMENT.batch, id=batch_id), DOCUMENT.private)
        place = places.batch(document.private.tenant, batch_id)
        run = BatchRun(document, self.storage.create(place, batch_document.encode(document)))
        run.judge(Verdict(100, "echo", ()), NOW)
        return run

    def begin(self, offset: int, now_ms: int = NOW) -> None:
        """Begin what it is time for."""
        self.rounds.begin([self.big, self.small], {0: offset}, now_ms)

    def take(self, run: BatchRun, line: int, now_ms: int = NOW) -> None:
        """A line of a batch has its outcome."""
        assert run.take(result(line, batch_id=run.id), now_ms)

    def stored(self, run: BatchRun) -> int:
        """Outcomes that count by the stored document."""
        stored = self.storage.get(places.batch(run.tenant, run.id))
        counts = batch_document.decode(stored.body).batch.request_counts
        return counts.completed + counts.failed


def test_a_batch_that_cannot_wait_is_stored_beside_a_round_and_moves_no_offset() -> None:
    world = World()
    later = NOW + ROUND_MS
    world.take(world.big, 1)
    world.begin(1, later)
    assert world.rounds.saving(world.big) and not world.rounds.saving(world.small)
    world.take(world.small, 1)
    world.begin(2, later)
    assert not world.rounds.saving(world.small), "what can wait waits for the next round"
    world.small.urgent = True
    world.begin(2, later)
    assert world.rounds.saving(world.small)
    world.hands.do(1)
    assert world.rounds.finish() == [] and world.stored(world.small) == 1
    assert not world.rounds.saving(world.small) and world.rounds.running and not world.offsets.committed
    world.hands.do()
    assert world.rounds.finish() == [] and not world.rounds.running
    assert world.offsets.committed == [{0: 1}], "the second result is for the next round to count"
    world.begin(2, later + ROUND_MS)
    assert world.rounds.finish() == [] and world.offsets.committed == [{0: 1}, {0: 2}]


def test_a_round_has_all_that_was_read_also_of_what_was_stored_beside_the_one_before() -> None:
    world = World()
    later = NOW + ROUND_MS
    world.take(world.big, 1)
    world.begin(1, later)
    world.small.urgent = True
    world.begin(1, later)
    world.hands.do()
    world.rounds.finish()
    world.offsets.committed.clear()
    world.take(world.small, 1)
    world.begin(2, later + ROUND_MS)
    assert len(world.hands.tasks) == 1, "the outcome came after what is being stored of its batch"
    world.hands.do()
    world.rounds.finish()
    world.begin(2, later + ROUND_MS)
    assert not world.offsets.committed and world.stored(world.small) == 0
    world.hands.do()
    world.rounds.finish()
    assert world.offsets.committed == [{0: 2}] and world.stored(world.small) == 1


def test_those_that_cannot_wait_do_not_keep_a_round_from_beginning() -> None:
    world = World()
    world.take(world.big, 1)
    world.begin(1, NOW + ROUND_MS)
    world.small.urgent = True
    world.begin(1, NOW + ROUND_MS)
    world.hands.do()
    world.rounds.finish()
    overdue = NOW + 2 * ROUND_MS
    world.big.urgent = True
    world.begin(2, overdue)
    assert not world.rounds.saving(world.big)
    world.hands.do()
    world.rounds.finish()
    world.begin(2, overdue)
    assert world.rounds.saving(world.big)
    world.hands.do()
    world.rounds.finish()
    assert world.offsets.committed == [{0: 1}, {0: 2}]


def test_a_batch_that_another_batcher_took_commits_nothing() -> None:
    world = World()
    world.take(world.big, 1)
    private = replace(world.big.document.private, epoch=2)
    place = places.batch(world.big.tenant, world.big.id)
    taken = batch_document.encode(replace(world.big.document, private=private))
    world.storage.replace(place, taken, world.storage.get(place).etag)
    world.begin(1, NOW + ROUND_MS)
    world.hands.do()
    assert world.rounds.finish() == [world.big] and not world.offsets.committed and not world.rounds.running
