"""Whole requests per second in admission's one slot: request, completion, and every output of both.

The requests are of a tenant and a pool of its own, whose policy is a record of the journal like any other: the
operator's configuration stays as it is. No worker reads that pool's topics; the completions are written here.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import orjson
from confluent_kafka import OFFSET_END, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.local import topics as infra_topics
from schemas import config, kafka, topics
from schemas.config import Model, PolicyDocument, Pool, Price, Rule
from schemas.limits import Limit
from tests.bench import meter
from tests.bench.driver import Stack, prompt, say, services
from tests.bench.report import Result, Row, Unmeasured

NAME: Final = "millrace-bench"
REQUESTS: Final = 20_000
# The JVM compiles for half a minute after a start; what is measured is what comes after.
WARM: Final = 20_000
# So many requests are open at any time: a completion is written this many requests after its request.
OPEN: Final = 256
TARGET: Final = 2_500.0
DEADLINE_MS: Final = 600_000
# Without any output for this long, admission is taken to be stuck.
SILENCE_S: Final = 30.0
# Flink names a task's thread after its first operator; Linux keeps 15 letters of it.
SLOT_THREAD: Final = "admission"
LEADER_TRIES: Final = 20
LEADER_WAIT_S: Final = 0.25
TOPICS: Final = (topics.work(NAME, "interactive"), topics.replies(NAME))
ROWS: Final = (topics.USAGE, topics.RESPONSES, topics.AUDIT)
LIMITS: Final = (
    Limit(on="requests", max=10**9, per="minute"),
    Limit(on="total_tokens", max=10**12, per="day"),
    Limit(on="cost_micros", max=10**15, per="month"),
)
# The flagged word is in every prompt, so every request has an audit row too.
PATTERNS: Final = 5_000
RULES: Final = (
    *(Rule(id=f"word-{i}", match=f"never {i:x} {i * 7919 % 65_521:x} said") for i in range(PATTERNS)),
    Rule(id="phrase", match="a banned phrase"),
    Rule(id="card", detect="credit_card", action="mask"),
    Rule(id="parcel", match="parcel", action="flag"),
)
ANSWER: Final = orjson.dumps(
    {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": prompt()}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 18, "completion_tokens": 17, "total_tokens": 35},
    }
)


def policy(*, closed: bool = False) -> dict[str, Any]:
    """The Policy record of the bench tenant; a closed one admits nothing."""
    models = {NAME: Model(route=(NAME,), price=Price("bench", 1_000_000, 2_000_000))}
    limits = (Limit(on="requests", max=0, per="minute"),) if closed else LIMITS
    digest = config.rules_hash(RULES)
    pools = {NAME: Pool(engine="echo", concurrency=256)}
    document = PolicyDocument("bench", NAME, limits, "full", RULES, digest, models, {}, pools)
    return {"tenant": NAME, "version": document.version, "document": config.encode(document)}


def pair(now_ms: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A request nobody has made before, at temperature 0 so that it is deduplicated, and the end of its attempt."""
    body = {"model": NAME, "temperature": 0, "max_tokens": 32, "messages": [{"role": "user", "content": prompt()}]}
    identity = {"tenant": NAME, "request_id": uuid.uuid4().hex}
    texts = dict.fromkeys(("batch_id", "custom_id", "correlation_id", "order_key"), "")
    request = identity | texts | {"key_id": "bench", "endpoint": "/v1/chat/completions", "model": NAME, "line": 0}
    request |= {"body": orjson.dumps(body), "lane": "interactive", "received_at": now_ms, "stream": False}
    request |= {"deadline": now_ms + DEADLINE_MS, "reply_to": topics.replies(NAME).name, "cache": "default"}
    request |= {"repeatable": False, "source": "http"}
    completion = identity | {"attempt": uuid.uuid4().hex, "step": 0, "pool": NAME, "worker": "bench", "engine": "echo"}
    completion |= {"model_version": "echo", "precision": "", "outcome": "ok", "http_status": 200, "body": ANSWER}
    completion |= {"input_tokens": 18, "output_tokens": 17, "cached_tokens": 0, "reasoning_tokens": 0}
    times = {"started_at": now_ms + 1, "first_token_at": now_ms + 2, "finished_at": now_ms + 3}
    return request, completion | times | {"streamed": False, "findings": [], "model": NAME, "shadow_of": ""}


def records(stack: Stack, count: int) -> list[bytes]:
    """`count` requests and their completions, encoded, in the order in which they are to be written."""
    now_ms = time.time_ns() // 1_000_000
    pairs = [pair(now_ms) for _ in range(count)]
    out = []
    for i in range(count + OPEN):
        if i < count:
            out.append(stack.codec.encode("Request", pairs[i][0]))
        if i >= OPEN:
            out.append(stack.codec.encode("Completion", pairs[i - OPEN][1]))
    return out


class Drive:
    """Writes to the journal and reads what admission writes for the bench tenant."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        bootstrap = stack.addresses.kafka
        settings = kafka.producer(bootstrap, "bench", linger_ms=5) | {"queue.buffering.max.messages": 200_000}
        self._producer = Producer(settings)
        # Rows are counted as they are written; when they are committed is the pace of checkpoints, not of admission.
        reading = {"isolation.level": "read_uncommitted", "fetch.wait.max.ms": 20, "auto.offset.reset": "latest"}
        self._consumer = Consumer(kafka.consumer(bootstrap, "bench", "bench") | reading)
        places = [TopicPartition(topics.replies(NAME).name, 0)]
        for topic in topics.FIXED:
            if topic.name in ROWS:
                places += [TopicPartition(topic.name, p) for p in range(topic.partitions)]
        for place in places:
            place.offset = self._end_of(place)
        self._consumer.assign(places)

    def _end_of(self, place: TopicPartition) -> int:
        for _ in range(LEADER_TRIES):
            try:
                return int(self._consumer.get_watermark_offsets(place, timeout=SILENCE_S)[1])
            except KafkaException:  # a topic just made has no leader for a moment
                time.sleep(LEADER_WAIT_S)
        raise Unmeasured(f"the topic {place.topic} cannot be read")

    def write(self, values: list[bytes]) -> None:
        """Append records of the bench tenant; they go out in the background."""
        for number, value in enumerate(values):
            self._producer.produce(topics.JOURNAL, value, NAME.encode())
            if number % 1000 == 0:
                self._producer.poll(0)

    def run(self, values: list[bytes], count: int) -> tuple[float, dict[str, list[bytes]]]:
        """(seconds from the first append to the last output, outputs by topic). Raises Unmeasured."""
        seen: dict[str, list[bytes]] = {name: [] for name in (topics.replies(NAME).name, *ROWS)}
        began = last = told = time.monotonic()
        self.write(values)
        while any(len(found) < count for found in seen.values()):
            self._producer.poll(0)
            for topic, value in self._outputs():
                seen[topic].append(value)
                last = time.monotonic()
            if time.monotonic() - told > 0.5:
                told = time.monotonic()
                say(f"admission: {min(map(len, seen.values())):,} of {count:,}", passing=True)
            if time.monotonic() - last > SILENCE_S:
                got = ", ".join(f"{len(found)} {topic}" for topic, found in seen.items())
                raise Unmeasured(f"admission fell silent: {got} of {count}")
        return last - began, seen

    def _outputs(self) -> Iterator[tuple[str, bytes]]:
        for message in self._consumer.consume(1000, 0.05):
            error, topic = message.error(), str(message.topic())
            if error is not None:
                raise KafkaException(error)
            key, value = message.key(), message.value()
            if value is not None and (topic not in ROWS or key == NAME.encode()):
                yield topic, bytes(value)

    def flush(self) -> None:
        """Wait until Kafka has everything."""
        if self._producer.flush(SILENCE_S):
            raise Unmeasured(f"Kafka took not all records within {SILENCE_S:.0f} s")

    def close(self) -> None:
        """Leave."""
        self.flush()
        self._consumer.close()


@contextmanager
def tenant(stack: Stack) -> Iterator[None]:
    """A tenant and a pool for a benchmark; afterwards it admits nothing more. Raises Unmeasured if there is one."""
    if NAME in stack.document.tenants or NAME in stack.document.pools:
        raise Unmeasured(f"the live configuration has a tenant or pool called {NAME}")
    admin = AdminClient({"bootstrap.servers": stack.addresses.kafka})
    infra_topics.make(stack.addresses.kafka, TOPICS)
    producer = Producer(kafka.producer(stack.addresses.kafka, "bench"))
    try:
        producer.produce(topics.JOURNAL, stack.codec.encode("Policy", policy()), NAME.encode())
        producer.flush(SILENCE_S)
        yield
    finally:
        producer.produce(topics.JOURNAL, stack.codec.encode("Policy", policy(closed=True)), NAME.encode())
        producer.flush(SILENCE_S)
        purge(admin)


async def measure(stack: Stack) -> Result:
    """Warm up, then one measured run. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    with tenant(stack):
        run = Drive(stack)
        try:
            run.run(records(stack, WARM), WARM)
            say(f"admission: {REQUESTS:,} requests after {WARM:,} to warm up")
            values = records(stack, REQUESTS)
            manager = services(stack)["taskmanager"]
            before, slot = meter.sample(stack), meter.thread_s(manager, SLOT_THREAD)
            seconds, seen = run.run(values, REQUESTS)
            used = meter.spent(before, meter.sample(stack))
            slot = meter.thread_s(manager, SLOT_THREAD) - slot
        finally:
            run.close()
    check(stack, seen)
    return result(seconds, used, slot, {topic: len(found) for topic, found in seen.items()})


def purge(admin: AdminClient) -> None:
    """Empty the bench tenant's topics. They stay: a replay of the journal writes to them again."""
    places = [TopicPartition(topic.name, p, OFFSET_END) for topic in TOPICS for p in range(topic.partitions)]
    for future in admin.delete_records(places).values():
        future.result()


def check(stack: Stack, seen: dict[str, list[bytes]]) -> None:
    """Raises Unmeasured unless every request was completed and charged, once."""
    rows = [stack.codec.decode(value)[1] for value in seen[topics.USAGE]]
    wrong = [row for row in rows if (row["status"], row["output_tokens"]) != ("completed", 17)]
    if wrong or len({row["request_id"] for row in rows}) != REQUESTS:
        example = f", such as {wrong[0]['status']} {wrong[0]['error_code']}" if wrong else ""
        raise Unmeasured(f"{len(wrong)} of {len(rows)} usage rows are not what they must be{example}")


def result(seconds: float, used: meter.Spent, slot_s: float, outputs: dict[str, int]) -> Result:
    """The row of one run; `slot_s` are the CPU seconds of the slot's own thread, 0 if not known."""
    rate = REQUESTS / seconds
    note = (
        f"{REQUESTS:,} requests in {seconds:.1f} s with three windows, {len(RULES):,} patterns, dedupe and audit; "
        f"CPU a request: the slot's thread {slot_s * 1000 / REQUESTS:.2f} ms, "
        f"the whole stack {used.total * 1000 / REQUESTS:.2f} ms"
    )
    details = {
        "seconds": round(seconds, 2),
        "outputs": outputs,
        "slot_cpu_seconds": round(slot_s, 2),
        "cpu_seconds": {name: round(value, 2) for name, value in used.services.items() if value >= 0.01},
        "driver_cpu_seconds": round(used.own, 2),
    }
    return Result([Row("admission, whole requests in one slot", rate, "/s", TARGET, ">=", note)], details)
