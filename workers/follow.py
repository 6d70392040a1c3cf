"""Follows what all workers must know: the configuration, from its beginning, and cancellations, from an hour ago."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from schemas import kafka, topics
from schemas.config import ConfigDocument, decode_config
from schemas.wire import Codec, WireError
from streams.moderation import Moderator, Unusable
from workers.client import PATIENT

log = logging.getLogger(__name__)

POLL_S: Final = 0.25
ASK_S: Final = 5.0
# -2 is the beginning, in librdkafka's numbering of offsets.
BEGINNING: Final = -2


@dataclass(frozen=True, slots=True)
class Live:
    """A configuration that is in force, with its rule sets compiled, by content hash."""

    document: ConfigDocument
    moderators: dict[str, Moderator]


def compile_rules(document: ConfigDocument, before: dict[str, Moderator]) -> dict[str, Moderator]:
    """Moderators of all rule sets; those compiled before are kept. One that cannot be is left out: it fails closed."""
    moderators = {}
    for rules_hash, rules in document.rule_sets.items():
        moderator = before.get(rules_hash) or Moderator.of(rules, rules_hash)
        if isinstance(moderator, Unusable):
            log.error("rule set %s cannot be used: %s", rules_hash, moderator.fault)
        else:
            moderators[rules_hash] = moderator
    return moderators


class Follower:
    """Reads both topics in a thread and calls `on_config(Live)` and `on_control(record)` in the event loop.

    The first configuration is given when all that was there at the start has been read, so that no work is taken before
    its cancellation is known.
    """

    def __init__(
        self,
        bootstrap: str,
        service: str,
        codec: Codec,
        on_config: Callable[[Live], None],
        on_control: Callable[[Any], None],
    ) -> None:
        name = f"{service}.follower"
        self._settings = {**kafka.consumer(bootstrap, name, name), **PATIENT}
        self._codec = codec
        self._on_config, self._on_control = on_config, on_control
        self._moderators: dict[str, Moderator] = {}
        self._loop = asyncio.get_running_loop()
        self._latest: Live | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    async def close(self) -> None:
        """Stop reading."""
        self._closing = True
        await asyncio.to_thread(self._thread.join, 5)

    def _run(self) -> None:
        consumer = Consumer(self._settings)
        try:
            ahead = self._assign(consumer)
            while not self._closing:
                if not ahead and self._latest is not None:
                    self._loop.call_soon_threadsafe(self._on_config, self._latest)
                    self._latest = None
                message = consumer.poll(POLL_S)
                if message is None:
                    continue
                if message.error() is not None:
                    log.warning("follower: %s", message.error())
                    continue
                self._take(message)
                if int(message.offset() or 0) + 1 >= ahead.get(str(message.topic()), 0):
                    ahead.pop(str(message.topic()), None)
        finally:
            consumer.close()

    def _assign(self, consumer: Consumer) -> dict[str, int]:
        """Start at the beginning of both; the end offsets that are not reached yet."""
        while not self._closing:
            try:
                ahead = {}
                for topic in (topics.CONFIG, topics.CONTROL):
                    low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=ASK_S)
                    if high > low:
                        ahead[topic] = high
                consumer.assign([TopicPartition(t, 0, BEGINNING) for t in (topics.CONFIG, topics.CONTROL)])
                return ahead
            except KafkaException as error:
                log.warning("follower: waiting for Kafka: %s", error)
                threading.Event().wait(1)
        return {}

    def _take(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        try:
            name, record = self._codec.decode(value)
            if name == "Config":
                document = decode_config(record["document"])
                self._moderators = compile_rules(document, self._moderators)
                self._latest = Live(document, self._moderators)
            elif name == "Control":
                self._loop.call_soon_threadsafe(self._on_control, record)
        except (WireError, ValueError) as error:
            log.error("%s: a record that cannot be read: %s", message.topic(), error)
