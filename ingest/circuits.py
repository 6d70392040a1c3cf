"""Which pools do not answer, as the controller says in the compacted topic `circuits`."""

from __future__ import annotations

import logging
from typing import Final

from confluent_kafka import Consumer, TopicPartition

from ingest.brokers import quiet
from schemas import kafka, topics
from schemas.wire import Codec, WireError

log = logging.getLogger(__name__)

MAX_READ: Final = 100


class Circuits:
    """Reads the topic from its beginning. Use it from one thread: `read` now and then, without waiting."""

    def __init__(self, bootstrap: str, client_id: str, codec: Codec) -> None:
        settings = kafka.consumer(bootstrap, f"{client_id}-circuits", f"{client_id}-circuits")
        self._consumer = Consumer({**settings, "fetch.wait.max.ms": 500, **quiet(f"{client_id}-circuits")})
        self._consumer.assign([TopicPartition(topics.CIRCUITS, 0, 0)])
        self._codec = codec
        self.open: set[str] = set()

    def read(self) -> None:
        """Take what was said meanwhile."""
        for message in self._consumer.consume(MAX_READ, 0):
            value = message.value()
            if message.error() is not None or value is None:
                continue
            try:
                name, circuit = self._codec.decode(value)
            except WireError as fault:
                log.error("circuit at %s is ignored: %s", message.offset(), fault)
                continue
            if name == "Circuit":
                (self.open.add if circuit["open"] else self.open.discard)(circuit["pool"])

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()
