"""A double of the admission job for tests of the batcher: answers batch lines of `journal` on `batch_results`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import kafka, topics
from schemas.wire import Codec

Record = dict[str, Any]
Script = Callable[[Record], Record]


def echo(request: Record) -> Record:
    """Answer a line with its own last message; refuse one that says `refuse`, fail one that says `fail`."""
    content = orjson.loads(request["body"])["messages"][-1]["content"]
    if content == "refuse":
        error = {"message": "no", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"}
        return {"status": "failed", "http_status": 400, "body": orjson.dumps({"error": error})}
    if content == "fail":
        return {"status": "failed", "http_status": 0, "error_code": "no_worker", "error_message": "Nobody answered."}
    message = {"role": "assistant", "content": content}
    body = {"object": "chat.completion", "choices": [{"index": 0, "message": message}]}
    words = len(content.split())
    return {"body": orjson.dumps(body, option=orjson.OPT_INDENT_2), "input_tokens": words, "output_tokens": words}


class BatchAdmission:
    """Runs in a thread. Knows requests by id, so a repeated one is answered once; `per_second` bounds its answers.

    `requests` and `cancellations` are the records of the journal in order, repetitions included.
    """

    def __init__(self, bootstrap: str, codec: Codec, script: Script = echo, per_second: float = 1e9) -> None:
        self.requests: list[Record] = []
        self.cancellations: list[Record] = []
        self.answered: set[str] = set()
        self.per_second = per_second
        self._script = script
        self._codec = codec
        self._open: dict[str, Record] = {}
        self._allowed = 0.0
        self._producer = Producer(kafka.producer(bootstrap, "double", linger_ms=2))
        settings = kafka.consumer(bootstrap, "double", "double") | {"fetch.wait.max.ms": 10}
        self._consumer = Consumer(settings)
        places = [TopicPartition(topics.JOURNAL, p) for p in range(4)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, 10)[1]
        self._consumer.assign(places)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()
        self._producer.flush(5)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stop.is_set():
            for message in self._consumer.consume(500, 0.01):
                if message.error() is None:
                    self._take(*self._codec.decode(message.value() or b""))
            now = time.monotonic()
            self._allowed = min(self._allowed + (now - last) * self.per_second, 1e9)
            last = now
            while self._open and self._allowed >= 1:
                self._allowed -= 1
                request_id = next(iter(self._open))
                request = self._open.pop(request_id)
                self._answer(request, {"status": "completed", "http_status": 200, **self._script(request)})
            if not self._open:
                self._allowed = 0.0
            self._producer.poll(0)

    def _take(self, name: str, record: Record) -> None:
        if name == "Request":
            self.requests.append(record)
            if record["request_id"] not in self.answered:
                self._open.setdefault(record["request_id"], record)
        elif name == "Cancellation":
            self.cancellations.append(record)
            if record["request_id"] not in self.answered:
                self._open.pop(record["request_id"], None)
                self._answer(record, {"status": record["reason"], "http_status": 0})

    def _answer(self, asked: Record, fields: Record) -> None:
        self.answered.add(asked["request_id"])
        result = {
            "tenant": asked["tenant"],
            "batch_id": asked["batch_id"],
            "line": asked["line"],
            "custom_id": asked["custom_id"],
            "request_id": asked["request_id"],
            "body": b"",
            "error_code": "",
            "error_message": "",
            "input_tokens": 0,
            "output_tokens": 0,
            "cached_tokens": 0,
            "reasoning_tokens": 0,
            **fields,
        }
        value = self._codec.encode("BatchResult", result)
        self._producer.produce(topics.BATCH_RESULTS, value, asked["batch_id"].encode())
