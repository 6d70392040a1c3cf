"""A desk for worker tests: publishes configurations and work as admission would, reads what workers write."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition
from parts import Parts
from processes import Process

from infra.local import topics as declared
from schemas import config, config_check, kafka, topics
from schemas.wire import Codec
from workers.clock import now_ms

REPLIES = topics.replies("desk")


class Desk:
    """One admission, by hand. `completions` by request id, `chunks` by request id, in the order they came."""

    def __init__(self, bootstrap: str, codec: Codec) -> None:
        self._bootstrap, self._codec = bootstrap, codec
        declared.make(bootstrap, (REPLIES,))
        self._producer = Producer(kafka.producer(bootstrap, "desk", linger_ms=2))
        self._consumer = Consumer(kafka.consumer(bootstrap, f"desk-{uuid.uuid4().hex}", "desk"))
        places = [TopicPartition(topics.JOURNAL, p) for p in range(4)]
        places += [TopicPartition(REPLIES.name, 0), TopicPartition(topics.DEAD_LETTERS, 0)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, timeout=10)[1]
        self._consumer.assign(places)
        self.completions: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.started: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.chunks: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.dead: list[dict[str, Any]] = []
        self.order: list[tuple[str, str]] = []

    def configure(self, pools: dict[str, Any], models: dict[str, Any], rule_sets: dict[str, Any] | None = None) -> None:
        """Publish a configuration."""
        parsed = config_check.parse({"pools": pools, "models": models, "rule_sets": rule_sets or {}})
        declared.make(self._bootstrap, [topics.work(p, lane) for p in pools for lane in topics.LANES])
        document = config.document(parsed)
        self.put(topics.CONFIG, "config", "Config", {"version": document.version, "document": config.encode(document)})

    def work(self, body: dict[str, Any], **fields: Any) -> str:
        """Publish work for `body`; its request id."""
        request_id = fields.pop("request_id", uuid.uuid4().hex)
        now = now_ms()
        record = {
            "tenant": "acme",
            "request_id": request_id,
            "pool": "echo",
            "lane": "interactive",
            "step": 0,
            "endpoint": "/v1/chat/completions",
            "model": "echo",
            "body": orjson.dumps(body),
            "stream": False,
            "reply_to": REPLIES.name,
            "max_input_tokens": 0,
            "max_output_tokens": 0,
            "admitted_at": now,
            "start_by": 0,
            "deadline": now + 120_000,
            "rules": "",
            "announce": False,
            "shadow_of": "",
            "batch_id": "",
            "line": 0,
            **fields,
        }
        self.put(topics.work(record["pool"], record["lane"]).name, request_id, "Work", record)
        return str(request_id)

    def ask(self, text: str, **fields: Any) -> str:
        """Publish work for one user message; its request id."""
        body = fields.pop("body", {})
        return self.work({"model": "x", "messages": [{"role": "user", "content": text}], **body}, **fields)

    def cancel(self, request_id: str, reason: str = "cancelled") -> None:
        """Publish a control record."""
        record = {"tenant": "acme", "request_id": request_id, "reason": reason, "at": now_ms()}
        self.put(topics.CONTROL, request_id, "Control", record)

    def raw(self, topic: str, value: bytes) -> None:
        """Publish any bytes."""
        self._producer.produce(topic, value, b"raw")
        self._producer.flush(10)

    def put(self, topic: str, key: str, name: str, record: Mapping[str, Any]) -> None:
        """Publish any record."""
        self._producer.produce(topic, self._codec.encode(name, record), key.encode())
        self._producer.poll(0)

    def read(self, condition: Callable[[], bool], what: str, timeout_s: float = 20) -> None:
        """Read what workers write until `condition` holds."""
        self._producer.flush(10)
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {timeout_s} s"
            for message in self._consumer.consume(200, 0.05):
                assert message.error() is None, message.error()
                self._note(message.value())

    def _note(self, value: bytes) -> None:
        name, record = self._codec.decode(value)
        held = {"Completion": self.completions, "Started": self.started, "Chunk": self.chunks}.get(name)
        if held is not None:
            held[record["request_id"]].append(record)
            self.order.append((name, record["request_id"]))
        elif name == "DeadLetter":
            self.dead.append(record)

    def done(self, *request_ids: str, timeout_s: float = 20) -> dict[str, Any]:
        """Wait until each of these has a completion; the first completion of the last."""
        missing = set(request_ids)

        def arrived() -> bool:
            missing.difference_update([i for i in missing if i in self.completions])
            return not missing

        self.read(arrived, f"completions of {len(request_ids)} requests", timeout_s)
        return self.completions[request_ids[-1]][0]

    def shown(self, request_id: str) -> str:
        """The content that was streamed."""
        deltas = [orjson.loads(c["data"])["choices"][0]["delta"] for c in self.chunks[request_id]]
        return "".join(d.get("content") or "" for d in deltas)


def body(completion: dict[str, Any]) -> dict[str, Any]:
    """The completion's body."""
    return dict(orjson.loads(completion["body"]))


def content(completion: dict[str, Any]) -> str:
    """The answer's text."""
    return str(body(completion)["choices"][0]["message"]["content"])


@contextmanager
def worker(parts: Parts, service: str = "worker-1") -> Iterator[Process]:
    """A worker process, ended at the end."""
    process = Process(parts, service, "workers.main")
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.stop(30)
