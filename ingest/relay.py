"""Carries intake.<tenant> into the journal, and lets time pass there. `python -m ingest.relay`.

At least once: offsets are committed after Kafka has acknowledged what became of the records. A record that is
carried twice has the same id twice, and admission takes it once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from ingest import service
from ingest.arrival import Arrival, BadRecordError, dead_letter
from ingest.brokers import quiet
from ingest.follower import Follower
from ingest.intake import Tenants, Translator
from ingest.intake_format import Reader
from ingest.ticker import Ticker
from schemas import kafka, registry, topics
from schemas.addresses import Addresses
from schemas.config import ConfigDocument
from schemas.wire import Codec

log = logging.getLogger(__name__)

GROUP: Final = "relay"
PATTERN: Final = r"^intake\..+"
POLL_S: Final = 0.5
# Records carried at once. What they take is bounded by what librdkafka fetches ahead, 64 MiB.
BATCH: Final = 1_000
RETRY_S: Final = 1.0


class Relay:
    """One consumer of all intake topics and one producer."""

    def __init__(self, addresses: Addresses, codec: Codec, follower: Follower, stop: threading.Event) -> None:
        self._codec = codec
        self._follower = follower
        self._translator = Translator(Reader(codec, registry.properties(addresses.registry)))
        self._tenants: tuple[ConfigDocument | None, Tenants] = (None, Tenants(()))
        self._stop = stop
        self._faults: list[str] = []
        # No time limit: what was read is sent, however long Kafka is away.
        settings = kafka.producer(addresses.kafka, addresses.service, linger_ms=1) | {"message.timeout.ms": 0}
        only_faults = {"delivery.report.only.error": True}
        self._producer = Producer({**settings, **only_faults, **quiet(addresses.service)})
        settings = kafka.consumer(addresses.kafka, GROUP, addresses.service)
        # A restarted relay takes its own place again, without waiting for the session of the dead one to end.
        self._consumer = Consumer({**settings, "group.instance.id": addresses.service, **quiet(GROUP)})

    def run(self) -> None:
        """Carry records until `stop` is set. Raises KafkaException when the producer is out of order for good."""
        while not self._follower.wait(POLL_S):
            if self._stop.is_set():
                return
        self._consumer.subscribe([PATTERN])
        try:
            while not self._stop.is_set():
                self._carry(self._read())
        finally:
            self._consumer.close()

    def _read(self) -> list[Message]:
        first = self._consumer.poll(POLL_S)
        if first is None:
            return []
        messages = []
        for message in [first, *self._consumer.consume(BATCH, 0)]:
            error = message.error()
            if error is None:
                messages.append(message)
            elif error.fatal() or error.code() == KafkaError._FATAL:
                # Fenced, say, after a broker's restart: the process manager starts us anew.
                raise KafkaException(error)
            else:
                log.warning("intake cannot be read: %s", error.str())
                self._stop.wait(0.1)
        return messages

    def _carry(self, messages: list[Message]) -> None:
        """(1) translate and send all, (2) wait until Kafka has them, (3) commit."""
        if not messages:
            return
        for message in messages:
            if not self._send(_arrival(message)):
                return
        while self._producer.flush(POLL_S):
            if self._stop.is_set():
                return
        if self._faults:
            raise KafkaException(KafkaError(KafkaError._FAIL, "; ".join(self._faults[:3])))
        self._commit(messages)

    def _send(self, arrival: Arrival) -> bool:
        """Send what becomes of one record; False if we were stopped before it was known."""
        while not self._stop.is_set():
            now_ms = time.time_ns() // 1_000_000
            try:
                request = self._translator.request(arrival, self._who(), now_ms)
            except BadRecordError as fault:
                log.warning("%s[%d]@%d: %s", arrival.topic, arrival.partition, arrival.offset, fault.reason)
                self._set_aside(arrival, fault, now_ms)
                return True
            except Exception as error:  # the registry client's many kinds; the record may well be good
                log.warning("the schema registry cannot be asked, trying again: %s", error)
                self._idle()
                continue
            self._produce(topics.JOURNAL, request["tenant"], self._codec.encode("Request", request))
            return True
        return False

    def _who(self) -> Tenants:
        """The tenants of the configuration that is live now."""
        document = self._follower.current
        assert document is not None, "the configuration was waited for"
        if self._tenants[0] is not document:
            self._tenants = (document, Tenants.of(document))
        return self._tenants[1]

    def _set_aside(self, arrival: Arrival, fault: BadRecordError, now_ms: int) -> None:
        letter = dead_letter(arrival, fault, now_ms)
        self._produce(topics.DEAD_LETTERS, letter["tenant"], self._codec.encode("DeadLetter", letter))

    def _produce(self, topic: str, key: str, value: bytes) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key.encode(), on_delivery=self._report)
                return
            except BufferError:
                self._producer.poll(POLL_S)

    def _report(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._faults.append(f"{message.topic()}: {error.str()}")

    def _idle(self) -> None:
        """Wait a little as a living member of the group: it must be polled, but give nothing."""
        held = self._consumer.assignment()
        self._consumer.pause(held)
        stray = self._consumer.poll(RETRY_S)
        if stray is not None and stray.error() is None:
            place = TopicPartition(stray.topic() or "", stray.partition() or 0, stray.offset() or 0)
            self._consumer.seek(place)
        self._consumer.resume(held)

    def _commit(self, messages: list[Message]) -> None:
        ends: dict[tuple[str, int], int] = {}
        for message in messages:
            ends[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        places = [TopicPartition(topic, partition, offset) for (topic, partition), offset in ends.items()]
        try:
            self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            log.warning("offsets were not committed; the records will be carried again: %s", error)


def _arrival(message: Message) -> Arrival:
    key, value, headers = message.key(), message.value(), message.headers()
    return Arrival(
        message.topic() or "",
        message.partition() or 0,
        message.offset() or 0,
        key.encode() if isinstance(key, str) else key,
        value.encode() if isinstance(value, str) else value,
        _headers(dict(headers)) if headers else {},
        message.timestamp()[1],
    )


def _headers(headers: Mapping[str, str | bytes | None]) -> dict[str, bytes]:
    """By name in lower case; the last of a name counts."""
    return {name.lower(): v.encode() if isinstance(v, str) else v or b"" for name, v in headers.items()}


def serve(addresses: Addresses, codec: Codec, stop: threading.Event) -> None:
    """Run the relay and the ticker until `stop` is set."""
    follower = Follower(addresses.kafka, addresses.service, codec)
    ticker = Ticker(addresses.kafka, addresses.service, codec)
    follower.start()
    ticker.start()
    try:
        Relay(addresses, codec, follower, stop).run()
    finally:
        ticker.stop()
        follower.stop()


def main() -> None:
    """Entry point of the process."""
    service.run(registry.connect, serve)


if __name__ == "__main__":
    main()
