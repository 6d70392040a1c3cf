"""The batcher: takes batches from validation to their output files. `python -m ingest.batcher`.

It serves the batches whose results arrive in the partitions of `batch_results` that its consumer group gave it.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ingest import ids, window
from ingest.batch_claims import Claims
from ingest.batch_events import BatchEvents
from ingest.batch_feed import Feed
from ingest.batch_jobs import Stopped
from ingest.batch_models import Models
from ingest.batch_rounds import Rounds
from ingest.batch_run import BatchRun
from ingest.batch_watch import Watch
from ingest.batch_work import Work
from ingest.circuits import Circuits
from ingest.follower import Follower
from ingest.patience import patiently
from ingest.services import s3_client
from ingest.storage import Storage
from ingest.sweeper import Sweeper
from ingest.work_tail import WorkTail
from schemas import kafka, registry, topics
from schemas.addresses import Addresses
from schemas.records import BatchResult
from schemas.wire import Codec, WireError

log = logging.getLogger(__name__)

GROUP: Final = "batcher"
RETRY_S: Final = 1.0
MAX_READ: Final = 500
# Results come in few large answers while there are many; the last one of a batch waits for GATHER_MS at most.
GATHER_BYTES: Final = 32 * 1024
GATHER_MS: Final = 50
# As often as lines are sent.
BUSY_S: Final = window.SLICE_MS / 1000
IDLE_S: Final = 0.1
# Outcomes that wait for S3; above this no more are read.
MAX_WAITING_BYTES: Final = 128 * 1024 * 1024
SAVERS: Final = 8
READERS: Final = 4
WORKERS: Final = 2
LAST_ROUND_S: Final = 5.0


class Batcher:
    """The loop. All state belongs to its thread; slow work goes to pools of threads and comes back as futures.

    `stop` ends the loop; what is being stored then is still finished, for at most five seconds.
    """

    def __init__(
        self, addresses: Addresses, codec: Codec, storage: Storage, follower: Follower, stop: threading.Event
    ) -> None:
        self._stop = stop
        self._abandon = threading.Event()
        self._codec = codec
        self._follower = follower
        self._pools = [ThreadPoolExecutor(n, name) for n, name in ((SAVERS, "s"), (READERS, "r"), (WORKERS, "w"))]
        savers, readers, workers = self._pools
        errors: dict[str, Any] = {"error_cb": self._on_error}
        self._producer = Producer({**kafka.producer(addresses.kafka, addresses.service, linger_ms=5), **errors})
        # A static member: a restarted process gets its partitions back at once, not after the dead one's session.
        settings = kafka.consumer(addresses.kafka, GROUP, addresses.service)
        settings |= {"group.instance.id": addresses.service}
        settings |= {"fetch.wait.max.ms": GATHER_MS, "fetch.min.bytes": GATHER_BYTES}
        self._results = Consumer({**settings, **errors})
        settings = kafka.consumer(addresses.kafka, f"{GROUP}-commands", f"{addresses.service}-commands")
        self._commands = Consumer({**settings, "fetch.wait.max.ms": 500})
        self._tail = WorkTail(addresses.kafka, addresses.service)
        self._feed = Feed(self._producer, codec, storage, readers, self._models)
        self._circuits = Circuits(addresses.kafka, addresses.service, codec)
        self._watch = Watch(storage, savers, addresses.service, self._feed, self._models, self._circuits)
        self._rounds = Rounds(storage, savers, self._results, self._abandon)
        announce = BatchEvents(addresses.kafka, addresses.service, codec, self._abandon).announce
        self._claims = Claims(storage, savers, self._ours, announce, stop)
        self._work = Work(storage, workers, self._models, announce, self._abandon)
        self._sweeper = Sweeper(storage, workers)
        self._runs: dict[str, BatchRun] = {}
        self._partitions: set[int] = set()
        self._new = False
        self._count = 0
        self._offsets: dict[int, int] = {}

    def run(self) -> None:
        """Work until `stop` is set."""
        self._commands.assign([TopicPartition(topics.BATCH_COMMANDS, 0, -1)])
        self._results.subscribe([topics.BATCH_RESULTS], on_assign=self._assign, on_revoke=self._revoke)
        try:
            while not self._stop.is_set():
                self._turn()
            self._last_round()
        except Stopped as error:
            log.info("stopped while %s", error)
        finally:
            self._abandon.set()
            for consumer in (self._results, self._commands, self._tail, self._circuits):
                consumer.close()
            self._producer.flush(2)
            for pool in self._pools:
                pool.shutdown(wait=False, cancel_futures=True)

    def _turn(self) -> None:
        feeding = any(run.step() in ("feed", "sweep") for run in self._runs.values())
        busy = feeding or self._claims or self._rounds.running or any(r.dirty or r.work for r in self._runs.values())
        messages = self._read(BUSY_S if busy else IDLE_S)
        now_ms = time.time_ns() // 1_000_000
        self._take_over()
        for message in messages:
            self._take(message, now_ms)
        self._watch_admission(feeding, now_ms)
        self._read_commands()
        self._claims.look(self._runs.__contains__, now_ms)
        self._adopt()
        for run in list(self._runs.values()):
            if self._work.advance(run, self._rounds.saving(run), now_ms):
                del self._runs[run.id]
        for lost in self._rounds.finish():
            if self._runs.get(lost.id) is lost:
                del self._runs[lost.id]
        self._watch.look(self._runs.values(), now_ms)
        self._rounds.begin(self._runs.values(), self._offsets, now_ms)
        self._feed.slice(self._runs.values(), now_ms)
        if 0 in self._partitions:  # one batcher does it for all
            self._sweeper.look(now_ms)
        self._producer.poll(0)

    # Results

    def _read(self, timeout_s: float) -> list[Message]:
        if sum(run.bytes for run in self._runs.values()) > MAX_WAITING_BYTES:
            self._stop.wait(timeout_s)
            return []
        try:
            return self._results.consume(MAX_READ, timeout_s)
        except KafkaException as error:
            log.warning("results cannot be read: %s", error)
            self._on_error(error.args[0])
            self._stop.wait(RETRY_S)
            return []

    def _take(self, message: Message, now_ms: int) -> None:
        if (error := message.error()) is not None:
            log.warning("results cannot be read: %s", error.str())
            self._on_error(error)
            return
        partition, offset = cast(int, message.partition()), cast(int, message.offset())
        if partition not in self._partitions:
            return
        self._offsets[partition] = offset + 1
        try:
            name, record = self._codec.decode(message.value() or b"")
        except WireError as fault:
            log.error("result at %d/%d is ignored: %s", partition, offset, fault)
            return
        if name != "BatchResult":
            log.error("result at %d/%d is ignored: it is a %s", partition, offset, name)
            return
        result = cast(BatchResult, record)
        run = self._runs.get(result["batch_id"])
        if run is not None and run.take(result, now_ms):
            self._feed.admitted(result["request_id"], now_ms)
            self._feed.finished(run, result["engine_ms"], now_ms)

    def _watch_admission(self, feeding: bool, now_ms: int) -> None:
        """Learn which lines became work; without lines to send nobody needs to know."""
        models = self._models() if feeding else None
        self._tail.follow(models.pools() if models is not None else ())
        for request_id in self._tail.read():
            self._feed.admitted(request_id, now_ms)

    # Which batches are ours

    def _ours(self, batch_id: str) -> bool:
        return bool(self._count) and ids.partition(batch_id, self._count) in self._partitions

    def _assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._partitions |= {p.partition for p in partitions}
        self._new = True
        log.info("serving partitions %s", sorted(self._partitions))

    def _revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = {p.partition for p in partitions}
        self._partitions -= gone
        self._rounds.forget(gone)
        for partition in gone:
            self._offsets.pop(partition, None)
        self._runs = {b: run for b, run in self._runs.items() if self._ours(b)}
        log.info("serving partitions %s", sorted(self._partitions))

    def _take_over(self) -> None:
        """Take over the batches of partitions that just became ours, before any of their results is looked at."""
        if not self._new:
            return
        self._count = patiently("the partitions of batch_results", self._count_partitions, self._stop)
        self._claims.all_now(self._runs.__contains__)
        self._new = False
        self._adopt()

    def _count_partitions(self) -> int:
        return len(self._results.list_topics(topics.BATCH_RESULTS, 5).topics[topics.BATCH_RESULTS].partitions)

    def _adopt(self) -> None:
        for saved in self._claims.collect():
            run = BatchRun(saved.document, saved.etag)
            self._runs[run.id] = run
            log.info("%s: %s", run.id, saved.document.batch.status)

    def _read_commands(self) -> None:
        while (message := self._commands.poll(0)) is not None:
            if message.error() is not None:
                log.warning("commands cannot be read: %s", message.error())
                return
            try:
                name, command = self._codec.decode(message.value() or b"")
            except WireError as fault:
                log.error("command at %d is ignored: %s", message.offset(), fault)
                continue
            if name != "BatchCommand":
                continue
            if (run := self._runs.get(command["batch_id"])) is not None:
                run.urgent = True  # the next put meets the changed document and adopts the order
            else:
                self._claims.start(command["tenant"], command["batch_id"])

    def _models(self) -> Models | None:
        """The models as configured now; None while no configuration is known."""
        current = self._follower.current
        return None if current is None else Models(current)

    # The end

    def _last_round(self) -> None:
        """Let a running round end, and store what is left in another one."""
        until = time.monotonic() + LAST_ROUND_S
        begun = False
        while time.monotonic() < until:
            self._rounds.finish()
            if not self._rounds.running:
                if begun:
                    return
                # Later than now, so that it is not put off for following the one before too soon.
                self._rounds.begin(self._runs.values(), self._offsets, time.time_ns() // 1_000_000 + 1_000)
                begun = True
            self._producer.poll(0.02)

    def _on_error(self, error: KafkaError) -> None:
        # A consumer tells of its own fatal error only in what it returns: fenced, say, after a broker's restart.
        if error.fatal() or error.code() == KafkaError._FATAL:
            log.error("Kafka client is out of order, restarting: %s", error.str())
            self._stop.set()


def main() -> int:
    """Run until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    addresses = Addresses.of(os.environ)
    try:
        codec = patiently("the schema registry", partial(registry.connect, addresses.registry), stop)
        storage = Storage(s3_client(addresses), addresses.bucket)
        patiently("S3", storage.prepare, stop)
    except Stopped:
        return 0
    follower = Follower(addresses.kafka, addresses.service, codec)
    follower.start()
    log.info("%s is up", addresses.service)
    Batcher(addresses, codec, storage, follower, stop).run()
    follower.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
