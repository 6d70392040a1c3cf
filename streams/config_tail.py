"""Follows the compacted topic `config` in a thread: the configuration that is live now."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from schemas import kafka, topics
from schemas.config import ConfigDocument, decode_config
from schemas.wire import Codec, WireError

log: Final = logging.getLogger("live")

POLL_S: Final = 0.5

# The configuration, and when it was published (ms UTC, by the broker's clock).
Changed = Callable[[ConfigDocument, int], object]


class ConfigTail:
    """Calls `changed`, in its own thread, with the newest configuration and then with each that follows."""

    def __init__(self, bootstrap: str, service: str, codec: Codec, changed: Changed) -> None:
        name = f"{service}-config"
        self._settings = {**kafka.consumer(bootstrap, name, name), "fetch.wait.max.ms": 500, "log_level": 2}
        self._codec = codec
        self._changed = changed
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="config", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, within about a second."""
        self._stop.set()
        self._thread.join(2 * POLL_S)

    def _run(self) -> None:
        consumer = Consumer({**self._settings, "enable.partition.eof": True})
        newest: tuple[ConfigDocument, int] | None = None
        try:
            consumer.assign([TopicPartition(topics.CONFIG, 0, 0)])
            while not self._stop.is_set():
                message = self._poll(consumer)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    newest = self._read(message) or newest
                elif error.code() != KafkaError._PARTITION_EOF:
                    log.warning("config cannot be read: %s", error)
                elif newest is not None:
                    # What came before was the past: compaction keeps some of it for a while.
                    self._changed(*newest)
                    newest = None
        finally:
            consumer.close()

    def _poll(self, consumer: Consumer) -> Message | None:
        try:
            return consumer.poll(POLL_S)
        except KafkaException as error:
            log.warning("config cannot be read: %s", error)
            self._stop.wait(POLL_S)
            return None

    def _read(self, message: Message) -> tuple[ConfigDocument, int] | None:
        """None of what cannot be read: the one before stays live."""
        try:
            _, record = self._codec.decode(message.value() or b"")
            return decode_config(record["document"]), message.timestamp()[1]
        except (WireError, KeyError, msgspec.DecodeError) as error:
            log.error("config at offset %s is ignored: %s", message.offset(), error)
            return None
