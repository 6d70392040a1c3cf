"""Three batches of the real model that never run dry, and what their lines made, as the journal tells it."""

from __future__ import annotations

import io
import threading
import time
from typing import Any, Final

import orjson
from confluent_kafka import Consumer, TopicPartition
from openai import OpenAI

from schemas import kafka, topics
from tests.bench.driver import Stack, prompt
from tests.bench.report import Unmeasured

URL: Final = "/v1/chat/completions"
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})
START_S: Final = 60.0
END_S: Final = 90.0
POLL_S: Final = 0.25


class Backlog:
    """Batches of `lines` lines, one for each key."""

    def __init__(self, stack: Stack, keys: list[str], model: str, lines: int, tokens: int) -> None:
        self._clients = [OpenAI(base_url=f"{stack.url}/v1", api_key=k, max_retries=2, timeout=30) for k in keys]
        self._model, self._lines, self._tokens = model, lines, tokens
        self._batches: list[tuple[OpenAI, str]] = []

    @property
    def running(self) -> bool:
        """Whether they were sent and not yet stopped."""
        return bool(self._batches)

    def start(self) -> None:
        """Send them, and return when the first lines of each are done. Raises Unmeasured."""
        for client in self._clients:
            data = b"\n".join(orjson.dumps(self._line(i)) for i in range(self._lines))
            file = client.files.create(file=("waves.jsonl", io.BytesIO(data)), purpose="batch")
            made = client.batches.create(input_file_id=file.id, endpoint=URL, completion_window="24h")
            self._batches.append((client, made.id))
        self._wait(lambda batch: batch.request_counts is not None and batch.request_counts.completed > 0, START_S)

    def _line(self, number: int) -> dict[str, Any]:
        text = prompt(f"Write a long and friendly answer to ticket {number}:")
        body = {"model": self._model, "temperature": 0, "max_tokens": self._tokens}
        body |= {"messages": [{"role": "user", "content": text}]}
        return {"custom_id": str(number), "method": "POST", "url": URL, "body": body}

    def stop(self) -> None:
        """Cancel them, and return when nothing of them runs any more. Raises Unmeasured if one had run dry."""
        dry = [i for client, i in self._batches if client.batches.retrieve(i).status in ENDED]
        for client, i in self._batches:
            if i not in dry:
                client.batches.cancel(i)
        self._wait(lambda batch: batch.status in ENDED, END_S)
        self._batches.clear()
        if dry:
            raise Unmeasured(f"{len(dry)} of the batches had no lines left")

    def _wait(self, done: Any, limit_s: float) -> None:
        end = time.monotonic() + limit_s
        while not all(done(client.batches.retrieve(i)) for client, i in self._batches):
            if time.monotonic() > end:
                raise Unmeasured(f"the batches were not where they should be within {limit_s:.0f} s")
            time.sleep(POLL_S)


class Made:
    """Output tokens of finished batch lines by the time they were finished (ms UTC), from the journal's end on."""

    def __init__(self, stack: Stack, tenants: frozenset[str]) -> None:
        self._codec, self._tenants = stack.codec, tenants
        reading = {"isolation.level": "read_uncommitted"}
        self._consumer = Consumer(kafka.consumer(stack.addresses.kafka, "bench-made", "bench-made") | reading)
        partitions = next(topic.partitions for topic in topics.FIXED if topic.name == topics.JOURNAL)
        places = [TopicPartition(topics.JOURNAL, p) for p in range(partitions)]
        for place in places:
            place.offset = int(self._consumer.get_watermark_offsets(place, timeout=START_S)[1])
        self._consumer.assign(places)
        self._lines: list[tuple[int, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            message = self._consumer.poll(POLL_S)
            if message is None or message.error() is not None or (message.key() or b"").decode() not in self._tenants:
                continue
            name, record = self._codec.decode(message.value() or b"")
            if name == "Completion" and record["outcome"] == "ok":
                self._lines.append((record["finished_at"], record["output_tokens"]))

    def between(self, begin_ms: int, end_ms: int) -> int:
        """Tokens of the lines that ended then."""
        return sum(tokens for at, tokens in list(self._lines) if begin_ms <= at < end_ms)

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join(2 * POLL_S + 1)
        self._consumer.close()
