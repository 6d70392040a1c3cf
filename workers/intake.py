"""The one consumer of a worker: a thread that always polls, and the ceremony of assignment.

Static membership, range assignor: the same partition indexes of every work topic go to the same worker, and a restart
within the session timeout gets them back without a rebalance.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import kafka, topics
from workers.client import PATIENT

log = logging.getLogger(__name__)

GROUP: Final = "workers"
# Requests of the event loop wait for this at most; while it waits for commits, less.
POLL_S: Final = 0.05
HURRIED_POLL_S: Final = 0.002
HURRY_S: Final = 0.5
BATCH: Final = 200
# Reading waits until what was read is taken, and with it the pauses that it causes are asked for: or a busy event loop
# would find the whole log before it. Far below max.poll.interval.ms.
TAKE_S: Final = 10.0
ASK_S: Final = 10.0
ASK_TIMES: Final = 5
# Longer than any revocation waits for what is in flight (workers.membership.DRAIN_S).
REVOKE_S: Final = 30.0
COMMON_ERRORS: Final = (KafkaError._PARTITION_EOF, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC)


class Taker(Protocol):
    """Where records and changes of assignment go; all of it runs in the event loop."""

    def take(self, messages: list[Message]) -> None:
        """Records, in order."""
        ...

    async def assigned(self, committed: list[TopicPartition]) -> list[TopicPartition]:
        """These partitions are ours now, from these offsets on; what to commit before anything is read of them."""
        ...

    async def revoked(self, partitions: list[TopicPartition], *, lost: bool) -> list[TopicPartition]:
        """These are no longer ours; the offsets to commit before they go (of no use when `lost`)."""
        ...


class Intake:
    """The consumer and its thread. `failed` is done when it cannot go on: it is left then, and another one made.

    That happens: after a broker's restart a static member that joins again may be fenced by its own late commit.
    """

    def __init__(self, bootstrap: str, service: str, taker: Taker) -> None:
        self._settings = {**kafka.consumer(bootstrap, GROUP, service), **PATIENT}
        settings = {
            **self._settings,
            "group.instance.id": service,
            # Fetch little ahead: a pause throws it away, and another worker may be free for it.
            "queued.min.messages": 200,
            "queued.max.messages.kbytes": 16_384,
            # A new pool's topics appear within this.
            "topic.metadata.refresh.interval.ms": 2_000,
        }
        self._consumer = Consumer(settings)
        self._taker = taker
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._closing = False
        self._hurry_until = 0.0
        self._last: list[TopicPartition] = []
        self._batch: list[Message] = []
        self._taken = threading.Event()
        self._asked: deque[tuple[Callable[[Any], object], Any]] = deque()
        self.topics: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)
        self._thread.start()

    def subscribe(self, names: Iterable[str]) -> bool:
        """Read these topics from now on; whether that changes anything."""
        wanted = frozenset(names)
        if wanted == self.topics:
            return False
        self.topics = wanted
        self._ask(self._subscribe, sorted(wanted))
        return True

    def _subscribe(self, names: list[str]) -> None:
        if names:
            self._consumer.subscribe(names, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._lost)
        else:
            self._consumer.unsubscribe()

    def nudge(self, missing: frozenset[str]) -> None:
        """Have the group assign anew if one of the `missing` topics exists. Blocks.

        A static member that comes back with other topics than it left with is given its old partitions: the coordinator
        compares the protocol's name only, not the subscription. A passing member makes it assign again.
        """
        visitor = Consumer({**self._settings, "client.id": "nudge"})
        try:
            if missing & visitor.list_topics(timeout=ASK_S).topics.keys():
                log.warning("intake: not assigned: %s; asking the group to assign anew", ", ".join(sorted(missing)))
                visitor.subscribe([topics.CONFIG])
                end = time.monotonic() + ASK_S
                while not visitor.assignment() and time.monotonic() < end and not self._closing:
                    visitor.poll(0.1)
        except KafkaException as error:
            log.warning("intake: nudge: %s", error)
        finally:
            visitor.close()

    def pause(self, partitions: list[TopicPartition]) -> None:
        """Stop reading these; the thread goes on polling."""
        self._ask(self._consumer.pause, partitions)

    def resume(self, partitions: list[TopicPartition]) -> None:
        """Go on reading these."""
        self._ask(self._consumer.resume, partitions)

    def commit(self, offsets: list[TopicPartition]) -> None:
        """Commit in the background; what fails is committed again with the next."""
        self._ask(self._commit, offsets)

    async def commit_now(self, offsets: list[TopicPartition], wait_s: float) -> None:
        """Commit and wait until Kafka has it, but no longer than `wait_s`: during a rebalance the thread is busy."""
        done: asyncio.Future[None] = self._loop.create_future()
        self._hurry_until = time.monotonic() + HURRY_S
        self._ask(self._commit_for, (offsets, done))
        try:
            await asyncio.wait_for(done, wait_s)
        except TimeoutError:
            log.warning("intake: a commit takes its time; going on without it")

    def _commit_for(self, asked: tuple[list[TopicPartition], asyncio.Future[None]]) -> None:
        offsets, done = asked
        self._commit_now(offsets)
        self._loop.call_soon_threadsafe(_finish, done)

    def _commit(self, offsets: list[TopicPartition]) -> None:
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def _ask(self, what: Callable[[Any], object], argument: Any) -> None:
        # Only the thread touches the consumer: its calls wait for callbacks while they hold the GIL.
        self._asked.append((what, argument))

    def _commit_now(self, offsets: list[TopicPartition]) -> None:
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("commit: %s", error)

    async def close(self, offsets: list[TopicPartition]) -> None:
        """Commit `offsets` and leave. The partitions of a static member wait for its return until its session ends."""
        self._last = offsets
        self._closing = True
        await asyncio.to_thread(self._thread.join, 10)

    def _run(self) -> None:
        try:
            while not self._closing:
                self._poll()
        except Exception as error:
            self._loop.call_soon_threadsafe(self._fail, error)
        finally:
            self._commit_now(self._last)
            self._consumer.close()

    def _do_asked(self) -> None:
        while self._asked:
            what, argument = self._asked.popleft()
            try:
                what(argument)
            except KafkaException as problem:
                log.warning("intake: %s: %s", what.__name__, problem)

    def _poll(self) -> None:
        self._do_asked()
        message = self._consumer.poll(HURRIED_POLL_S if time.monotonic() < self._hurry_until else POLL_S)
        while message is not None:
            error = message.error()
            if error is None:
                self._batch.append(message)
            elif error.fatal() or error.code() == KafkaError._FATAL:
                raise KafkaException(error)
            elif error.code() not in COMMON_ERRORS:
                log.warning("intake: %s", error)
            message = self._consumer.poll(0) if len(self._batch) < BATCH else None
        if self._batch:
            batch, self._batch = self._batch, []
            self._taken.clear()
            self._loop.call_soon_threadsafe(self._give, batch)
            self._taken.wait(TAKE_S)

    def _give(self, batch: list[Message]) -> None:
        try:
            self._taker.take(batch)
        finally:
            self._taken.set()

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        committed = self._committed(consumer, partitions) if partitions else []
        opened = self._wait(self._taker.assigned(committed))
        # librdkafka keeps a partition paused when it is taken away and given back, and a pause asked for before may
        # still wait here: either would leave it unread for ever.
        self._do_asked()
        consumer.assign(committed)
        if committed:
            self._commit_now(opened)
            consumer.resume(committed)

    def _committed(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        for left in range(ASK_TIMES - 1, -1, -1):
            try:
                return list(consumer.committed(partitions, timeout=ASK_S))
            except KafkaException as error:
                if not left or self._closing:
                    raise
                log.warning("intake: asking for committed offsets again: %s", error)
        raise AssertionError("unreachable")

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._batch.clear()  # Not taken, so not committed: whoever has the partition next reads it.
        if not self._closing:
            self._commit_now(self._wait(self._taker.revoked(partitions, lost=False)))

    def _lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._batch.clear()
        if not self._closing:
            self._wait(self._taker.revoked(partitions, lost=True))

    def _wait(self, awaitable: Awaitable[list[TopicPartition]]) -> list[TopicPartition]:
        async def run() -> list[TopicPartition]:
            return await awaitable

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(REVOKE_S)


def _finish(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
