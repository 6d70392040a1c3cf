"""From the journal to a work topic at a steady rate: what admission adds before a worker can begin."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import kafka, topics
from tests.bench import admission
from tests.bench.admission import NAME
from tests.bench.driver import Stack, percentile, say
from tests.bench.report import Result, Row, Unmeasured

PER_SECOND: Final = 500
SECONDS: Final = 20
WARM_S: Final = 5
# Work that has not come after this long is lost, or admission is stuck.
SILENCE_S: Final = 20.0
TARGETS_MS: Final = {0.5: 12.0, 0.99: 50.0}


class Steady:
    """Writes requests on a fixed schedule (open loop), completes each as its work arrives, times the way between."""

    def __init__(self, stack: Stack) -> None:
        self._codec = stack.codec
        bootstrap = stack.addresses.kafka
        self._producer = Producer(kafka.producer(bootstrap, "bench-log"))
        self._consumer = Consumer(kafka.consumer(bootstrap, "bench-log", "bench-log"))
        topic = topics.work(NAME, "interactive")
        places = [TopicPartition(topic.name, p) for p in range(topic.partitions)]
        for place in places:
            place.offset = int(self._consumer.get_watermark_offsets(place, timeout=SILENCE_S)[1])
        self._consumer.assign(places)

    def run(self, seconds: float, per_second: float) -> list[float]:
        """Milliseconds from journal to work of each request, in the order of their work. Raises Unmeasured."""
        pairs = [admission.pair(time.time_ns() // 1_000_000) for _ in range(int(seconds * per_second))]
        values = [self._codec.encode("Request", request) for request, _ in pairs]
        ends = {r["request_id"]: self._codec.encode("Completion", completion) for r, completion in pairs}
        sent: dict[str, float] = {}
        took: list[float] = []
        began = last = time.perf_counter()
        number = 0
        while len(took) < len(values):
            now = time.perf_counter()
            while number < len(values) and now >= began + number / per_second:
                # Counted from the moment it was due, so that a driver that lags is not flattered.
                sent[pairs[number][0]["request_id"]] = began + number / per_second
                self._append(values[number])
                number += 1
            found = self._work()
            if found is not None:
                last = time.perf_counter()
                took.append((last - sent.pop(found)) * 1000)
                self._append(ends.pop(found))
            elif time.perf_counter() - last > SILENCE_S:
                raise Unmeasured(f"{len(values) - len(took)} of {len(values)} requests became no work")
        self._producer.flush(SILENCE_S)
        return took

    def _append(self, value: bytes) -> None:
        self._producer.produce(topics.JOURNAL, value, NAME.encode())
        self._producer.poll(0)

    def _work(self) -> str | None:
        message = self._consumer.poll(0.0005)
        if message is None or message.error() is not None:
            return None
        record: dict[str, Any] = self._codec.decode(message.value() or b"")[1]
        return str(record["request_id"])

    def close(self) -> None:
        """Leave."""
        self._consumer.close()


async def measure(stack: Stack) -> Result:
    """Latency at a steady rate. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    with admission.tenant(stack):
        steady = Steady(stack)
        try:
            steady.run(WARM_S, PER_SECOND)
            say(f"log: {PER_SECOND}/s for {SECONDS} s")
            took = steady.run(SECONDS, PER_SECOND)
        finally:
            steady.close()
    return Result(rows(took, f"at {PER_SECOND}/s", TARGETS_MS), {"ms": shares(took)})


def rows(took: list[float], when: str, targets: dict[float, float]) -> list[Row]:
    """A row for each share that has a target."""
    return [
        Row(
            f"journal to work, p{p * 100:.0f} {when}",
            percentile(took, p),
            "ms",
            target,
            "<=",
            f"{len(took):,} requests",
        )
        for p, target in targets.items()
    ]


def shares(took: list[float]) -> dict[str, float]:
    """The distribution."""
    return {f"p{p * 100:g}": round(percentile(took, p), 2) for p in (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)}
