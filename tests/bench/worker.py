"""What a worker itself costs: CPU of its process for an echo request without delay, and how processes add up.

A broker of its own; the work lies in the log before the workers get their configuration. Journal and work are counted
by their offsets, so that counting takes no CPU from the workers.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from typing import Final, NamedTuple

import orjson
import psutil
from confluent_kafka import Consumer, Producer, TopicPartition

from infra.local.settings import Settings
from schemas import config, config_check, kafka, topics
from schemas.wire import Codec
from tests.bench.broker import broker
from tests.bench.driver import Stack, end, prompt, say
from tests.bench.report import Result, Row, Unmeasured

REQUESTS: Final = 30_000
# Of all, these parts are done when the speed is measured: joining the group and the last stragglers are left out.
# CPU is counted from before the first record is read until the last is answered.
BEGIN, END = 0.15, 0.9
PROCESSES: Final = (1, 2, 4)
TARGET_MS: Final = 0.4
RUN_S: Final = 150.0
LIMIT_S: Final = 480.0
TICK_S: Final = 0.02
POOL: Final = {"engine": "echo", "concurrency": 256}


class Run(NamedTuple):
    """CPU seconds that all workers took for all requests, and requests a second in the middle of it."""

    requests: int
    cpu_s: float
    per_s: float

    @property
    def cpu_ms(self) -> float:
        """CPU of the workers for one request, in ms."""
        return self.cpu_s * 1_000 / self.requests


class Journal:
    """Counts the journal's records by its offsets."""

    def __init__(self, bootstrap: str) -> None:
        self._consumer = Consumer(kafka.consumer(bootstrap, "bench", "bench"))

    def length(self) -> int:
        """Records ever written. Blocks."""
        places = [TopicPartition(topics.JOURNAL, p) for p in range(4)]
        return sum(self._consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)

    def close(self) -> None:
        """Close the connection."""
        self._consumer.close()


def write(settings: Settings, codec: Codec, count: int) -> None:
    """Work for the pool, all lanes' topics but standard; none of it has to wait for a caller."""
    producer = Producer(kafka.producer(settings.kafka, "bench", linger_ms=20))
    now = int(time.time() * 1_000)
    for number in range(count):
        lane = "interactive" if number % 4 == 0 else "batch"
        body = {"model": "echo", "temperature": 0, "messages": [{"role": "user", "content": prompt()}]}
        record = {
            "tenant": f"tenant-{number % 8}", "request_id": uuid.uuid4().hex, "pool": "echo", "lane": lane, "step": 0,
            "endpoint": "/v1/chat/completions", "model": "echo", "body": orjson.dumps(body), "stream": False,
            "reply_to": topics.replies("gateway").name, "max_input_tokens": 1_024, "max_output_tokens": 256,
            "admitted_at": now, "start_by": 0, "deadline": now + 3_600_000, "rules": "", "announce": False,
            "shadow_of": "", "batch_id": "", "line": number,
        }  # fmt: skip
        value = codec.encode("Work", record)
        while True:
            try:
                producer.produce(topics.work("echo", lane).name, value, record["request_id"].encode())
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(30):
        raise Unmeasured("the broker did not take the work")


def configure(settings: Settings, codec: Codec) -> None:
    """Publish a configuration with the pool; workers begin with it."""
    document = config.document(config_check.parse({"pools": {"echo": POOL}, "models": {"echo": {"route": ["echo"]}}}))
    record = {"version": document.version, "document": config.encode(document)}
    producer = Producer(kafka.producer(settings.kafka, "bench"))
    producer.produce(topics.CONFIG, codec.encode("Config", record), b"config")
    producer.flush(10)


async def once(processes: int) -> Run:
    """All the work by so many processes. Raises Unmeasured."""
    codec = Codec.offline()
    lanes = [topics.work("echo", lane) for lane in topics.LANES]
    with broker(lanes) as settings:
        await asyncio.to_thread(write, settings, codec, REQUESTS)
        workers = []
        journal = Journal(settings.kafka)
        try:
            for number in range(1, processes + 1):
                log = (settings.home / f"worker-{number}.log").open("ab")
                command = (sys.executable, "-m", "tests.bench.worker_alone")
                env = settings.environment(f"worker-{number}")
                workers.append(await asyncio.create_subprocess_exec(*command, env=env, stdout=log, stderr=log))
                log.close()
            await _up(settings, processes)
            found = [psutil.Process(worker.pid) for worker in workers]
            before = _cpu_s(found)
            await asyncio.to_thread(configure, settings, codec)
            per_s = await _speed(journal)
            return Run(REQUESTS, _cpu_s(found) - before, per_s)
        except psutil.Error:
            raise Unmeasured("a worker ended by itself") from None
        finally:
            journal.close()
            for worker in workers:
                await end(worker)


async def _up(settings: Settings, processes: int) -> None:
    """Wait until every worker says that it is up."""
    logs = [settings.home / f"worker-{number}.log" for number in range(1, processes + 1)]
    for _ in range(int(30 / TICK_S)):
        if all("is up" in log.read_text() for log in logs):
            return
        await asyncio.sleep(TICK_S)
    raise Unmeasured("the workers did not come up")


def _cpu_s(workers: list[psutil.Process]) -> float:
    times = [worker.cpu_times() for worker in workers]
    return float(sum(t.user + t.system for t in times))


async def _speed(journal: Journal) -> float:
    """Requests a second between two parts of the work; returns when all of it is done. Raises Unmeasured."""

    async def reach(count: float) -> tuple[int, float]:
        while (found := await asyncio.to_thread(journal.length)) < count:
            await asyncio.sleep(TICK_S)
        return found, time.monotonic()

    try:
        async with asyncio.timeout(RUN_S):
            first, last = await reach(REQUESTS * BEGIN), await reach(REQUESTS * END)
            await reach(REQUESTS)
    except TimeoutError:
        raise Unmeasured(f"the work was not done within {RUN_S:.0f} s") from None
    return (last[0] - first[0]) / (last[1] - first[1])


async def measure(stack: Stack) -> Result:
    """One process, then more. The stack is left alone, and takes its part of the machine. Raises Unmeasured."""
    del stack
    runs: dict[int, Run] = {}
    for processes in PROCESSES:
        say(f"worker: {REQUESTS} echo requests, {processes} process{'es' if processes > 1 else ''}")
        runs[processes] = await once(processes)
    return result(runs)


def result(runs: dict[int, Run]) -> Result:
    """Rows from the runs, by the number of processes."""
    alone = runs[1]
    note = f"user and system time of the process over {alone.requests:,} requests"
    rows = [Row("CPU of a worker per echo request", alone.cpu_ms, "ms", TARGET_MS, "<=", note)]
    for processes, run in runs.items():
        times = f"{run.per_s / alone.per_s:.2f} times one process, {run.cpu_ms:.2f} ms of CPU a request"
        broker = "the broker runs on the same cores"
        what = f"echo requests of {processes} worker process{'es' if processes > 1 else ''}"
        rows.append(Row(what, run.per_s, "/s", note=f"{times}; {broker}"))
    details = {str(n): r._asdict() for n, r in runs.items()}
    return Result(rows, {"processes": details})
