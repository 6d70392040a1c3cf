"""A whole worker without Kafka: records are handed to it, and what it writes is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson
from confluent_kafka import TopicPartition

from schemas import config, config_check, topics
from schemas.wire import Codec
from streams.moderation import Moderator
from workers.clock import now_ms
from workers.follow import Live
from workers.item import Item
from workers.worker import Worker


class Message:
    """A record of Kafka, as far as a worker looks at it."""

    def __init__(self, topic: str, offset: int, value: bytes) -> None:
        self._topic, self._offset, self._value = topic, offset, value

    def __len__(self) -> int:
        return len(self._value)

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def value(self) -> bytes:
        return self._value

    def key(self) -> bytes:
        return b"k"

    def timestamp(self) -> tuple[int, int]:
        return 1, now_ms()


class Box:
    """An outbox that keeps what it is given. `at` are the monotonic times of chunks, by request."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.completions: dict[str, list[dict[str, Any]]] = {}
        self.chunks: dict[str, list[dict[str, Any]]] = {}
        self.at: dict[str, list[float]] = {}
        self.changed = asyncio.Event()

    async def put(self, topic: str, key: bytes, value: bytes) -> None:
        name, record = self._codec.decode(value)
        if name == "Completion":
            self.completions.setdefault(record["request_id"], []).append(record)
        self.changed.set()

    async def post(self, flight: Any, topic: str, key: bytes, value: bytes) -> None:
        _, record = self._codec.decode(value)
        self.chunks.setdefault(record["request_id"], []).append(record)
        self.at.setdefault(record["request_id"], []).append(asyncio.get_running_loop().time())
        self.changed.set()


class Room:
    """One worker that has partition 0 of every lane of `pools`."""

    def __init__(
        self,
        pools: dict[str, Any],
        rule_sets: dict[str, Any] | None = None,
        drain_s: float = 5,
        codec: Codec | None = None,
    ) -> None:
        self._codec = codec or Codec.offline()
        self.box = Box(self._codec)
        self.worker = Worker("worker-1", self._codec, self.box, drain_s)  # type: ignore[arg-type]
        self._offsets: dict[str, int] = {}
        self._rule_sets = rule_sets or {}
        self.configure(pools)
        self.names = [topics.work(p, lane).name for p in pools for lane in topics.LANES]

    def configure(self, pools: dict[str, Any]) -> None:
        """Put a configuration into force."""
        models = {name: {"route": [name], "max_input_tokens": 256, "max_output_tokens": 256} for name in pools}
        document = config.document(config_check.parse({"pools": pools, "models": models, "rule_sets": self._rule_sets}))
        moderators = {h: Moderator.of(rules, h) for h, rules in document.rule_sets.items()}
        self.worker.configure(Live(document, moderators))  # type: ignore[arg-type]

    async def open(self) -> Room:
        """Be assigned everything."""
        await self.worker.membership.assigned([TopicPartition(name, 0, 0) for name in self.names])
        return self

    def ask(self, request_id: str, text: str, lane: str = "interactive", pool: str = "echo", **fields: Any) -> None:
        """Hand it a request, as a record of the work topic."""
        body = {"messages": [{"role": "user", "content": text}], **fields.pop("body", {})}
        record = {
            **dict.fromkeys(("rules", "shadow_of", "batch_id"), ""),
            **dict.fromkeys(("step", "max_input_tokens", "max_output_tokens", "start_by", "deadline", "line"), 0),
            **{"tenant": "acme", "request_id": request_id, "pool": pool, "lane": lane, "model": pool},
            **{"endpoint": "/v1/chat/completions", "body": orjson.dumps(body), "stream": lane == "interactive"},
            **{"reply_to": "replies.x", "admitted_at": now_ms(), "announce": False},
            **fields,
        }
        topic = topics.work(pool, lane).name
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        self.worker.take([Message(topic, offset, self._codec.encode("Work", record))])  # type: ignore[list-item]

    def cancel(self, request_id: str) -> None:
        """Take a request back."""
        self.worker.cancel({"tenant": "acme", "request_id": request_id, "reason": "cancelled", "at": now_ms()})

    def item(self, request_id: str) -> Item | None:
        """The open piece of work, if it is open."""
        found = (i for i in self.worker._docket.open.values() if i.work["request_id"] == request_id)
        return next(found, None)

    async def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 10) -> None:
        """Wait for a condition that changes with what is written, or soon after."""
        try:
            async with asyncio.timeout(timeout_s):
                while not condition():
                    self.box.changed.clear()
                    try:
                        await asyncio.wait_for(self.box.changed.wait(), 0.005)
                    except TimeoutError:
                        continue
        except TimeoutError:
            raise AssertionError(f"{what}: not within {timeout_s} s") from None

    async def done(self, *request_ids: str, timeout_s: float = 10) -> list[dict[str, Any]]:
        """The one completion of each of these, when all have come."""
        await self.until(lambda: all(i in self.box.completions for i in request_ids), "completions", timeout_s)
        assert all(len(self.box.completions[i]) == 1 for i in request_ids)
        return [self.box.completions[i][0] for i in request_ids]

    def low(self, lane: str, pool: str = "echo") -> int:
        """How far the lane's partition may be committed."""
        mark = self.worker._partitions.get((topics.work(pool, lane).name, 0))
        assert mark is not None
        return mark.low


def content(completion: dict[str, Any]) -> str:
    """The answer's text."""
    return str(orjson.loads(completion["body"])["choices"][0]["message"]["content"])
