"""A double of the admission job for tests of the gateway: reads `journal`, answers each request by a script."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from schemas import kafka, topics
from schemas.wire import Codec

Record = dict[str, Any]
Script = Callable[["ScriptedAdmission", Record], None]


def completion(content: str, request_id: str = "r") -> Record:
    """A chat.completion that says `content`."""
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion",
        "created": 1,
        "model": "echo",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }


def piece(content: str, request_id: str = "r") -> Record:
    """A chat.completion.chunk that adds `content`."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": None}
    return {
        "id": f"chatcmpl-{request_id}",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "echo",
        "choices": [choice],
    }


def echo(admission: ScriptedAdmission, request: Record) -> None:
    """Answer with the last message."""
    content = orjson.loads(request["body"])["messages"][-1]["content"]
    admission.reply(request, completion(content, request["request_id"]))


class ScriptedAdmission:
    """Runs in a thread. `seen` is every record of the journal, by schema name, in order."""

    def __init__(self, bootstrap: str, codec: Codec, script: Script = echo) -> None:
        self.script = script
        self.seen: list[tuple[str, Record]] = []
        self.changed = threading.Condition()
        self._codec = codec
        self._producer = Producer(kafka.producer(bootstrap, "double"))
        settings = kafka.consumer(bootstrap, "double", "double") | {"isolation.level": "read_uncommitted"}
        self._consumer = Consumer(settings)
        places = [TopicPartition(topics.JOURNAL, p) for p in range(4)]
        for place in places:
            place.offset = self._consumer.get_watermark_offsets(place, 10)[1]
        self._consumer.assign(places)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def reply(self, request: Record, body: Record, *, http_status: int = 200, **fields: Any) -> None:
        """Send the outcome."""
        record = {
            "tenant": request["tenant"],
            "request_id": request["request_id"],
            "attempt": "",
            "status": "completed",
            "http_status": http_status,
            "cache": "miss",
            "body": orjson.dumps(body),
            "headers": {},
            **fields,
        }
        self._producer.produce(request["reply_to"], self._codec.encode("Reply", record))
        self._producer.poll(0)

    def chunk(self, request: Record, sequence: int, data: Record, attempt: str = "a1") -> None:
        """Send a piece, as a worker would."""
        record = {
            "tenant": request["tenant"],
            "request_id": request["request_id"],
            "attempt": attempt,
            "sequence": sequence,
            "data": orjson.dumps(data),
        }
        self._producer.produce(request["reply_to"], self._codec.encode("Chunk", record))
        self._producer.poll(0)

    def wait_for(self, name: str, count: int = 1, timeout_s: float = 15) -> list[Record]:
        """The first `count` records called `name`."""
        with self.changed:
            found = self.changed.wait_for(lambda: len(self._of(name)) >= count, timeout_s)
        assert found, f"{len(self._of(name))} of {count} {name} in the journal"
        return self._of(name)

    def _of(self, name: str) -> list[Record]:
        return [record for kind, record in self.seen if kind == name]

    def _run(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.2)
            if first is None:
                continue
            for message in [first, *self._consumer.consume(500, 0)]:
                if message.error() is None:
                    self._take(*self._codec.decode(message.value()))

    def _take(self, name: str, record: Record) -> None:
        with self.changed:
            self.seen.append((name, record))
            self.changed.notify_all()
        if name == "Request":
            self.script(self, record)

    def close(self) -> None:
        """Stop."""
        self._stop.set()
        self._thread.join(5)
        self._consumer.close()
        self._producer.flush(5)
