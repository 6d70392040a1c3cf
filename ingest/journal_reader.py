"""Reads from the journal what the controller decides by: attempts that ended, and circuits. All else is passed over."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Final, NamedTuple, cast

from confluent_kafka import OFFSET_END, Consumer, KafkaError, KafkaException, Message, TopicPartition

from ingest.brokers import quiet
from schemas import kafka, topics
from schemas.records import Circuit, Completion
from schemas.wire import HEADER, Codec
from streams.steering import Ended, ended

log = logging.getLogger(__name__)

BATCH: Final = 1_000
TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.5
# What is remembered of the past at once: some 50 MiB. Beyond it the oldest is forgotten.
MAX_PAST: Final = 200_000
# A schema that the registry does not know, or could not be asked for, is asked for again after so long.
ASK_AGAIN_S: Final = 60.0
# A decision may wait for half a second, so a fetch waits for a quarter MiB; 16 MiB at most are read ahead.
FETCH: Final[kafka.Settings] = {
    "fetch.wait.max.ms": 400,
    "fetch.min.bytes": 256 * 1024,
    "queued.max.messages.kbytes": 16 * 1024,
    "auto.offset.reset": "latest",
    "enable.partition.eof": True,
}


class Seen(NamedTuple):
    """A record that counts, and the broker's time of it, ms UTC."""

    at_ms: int
    what: Ended | Circuit


class JournalReader:
    """All partitions of the journal, without a group: everybody who asks sees everything. Not thread-safe.

    `ids` are schema ids by name. `now_ms` is the latest time any record bore; ticks move it where nothing else happens.
    """

    def __init__(self, bootstrap: str, client_id: str, codec: Codec, ids: Mapping[str, int]) -> None:
        settings = kafka.consumer(bootstrap, client_id, client_id)
        self._consumer = Consumer({**settings, **FETCH, **quiet(client_id)})
        self._codec = codec
        # Most records are told apart by their first five bytes. Older ids are learnt as they are met.
        self._names = {schema_id: name for name, schema_id in ids.items()}
        self._ask_at: dict[int, float] = {}
        self.now_ms = 0

    def past(self, since_ms: int, stop: threading.Event) -> list[Seen]:
        """Place the reader at `since_ms`, read up to what is there now, and return that in the order of time.

        Raises KafkaException. Without this order partitions would come one after another, minutes apart.
        """
        found = self._consumer.list_topics(topics.JOURNAL, TIMEOUT_S).topics[topics.JOURNAL]
        if found.error is not None:
            raise KafkaException(found.error)
        asked = [TopicPartition(topics.JOURNAL, p, since_ms) for p in found.partitions]
        places = self._consumer.offsets_for_times(asked, TIMEOUT_S)
        ends: dict[int, int] = {}
        for place in places:
            if place.error is not None:
                raise KafkaException(place.error)
            end = self._consumer.get_watermark_offsets(place, TIMEOUT_S)[1]
            place.offset = end if place.offset == OFFSET_END else place.offset
            if place.offset < end:
                ends[place.partition] = end
        self._consumer.assign(places)
        seen: list[Seen] = []
        while ends and not stop.is_set():
            for message in self._consume(POLL_S):
                partition, error = message.partition() or 0, message.error()
                if error is None:
                    seen += self._seen(message)
                # Where records come all the time the end is never seen; where a transaction ends, its last is none.
                if error is not None or (message.offset() or 0) + 1 >= ends.get(partition, 0):
                    ends.pop(partition, None)
            if len(seen) > 2 * MAX_PAST:
                seen = _newest(seen)
        return _newest(seen)

    def read(self, timeout_s: float) -> list[Seen]:
        """What came since; waits at most `timeout_s` seconds for something. Raises KafkaException if all is lost."""
        return [s for m in self._consume(timeout_s) if m.error() is None for s in self._seen(m)]

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def _consume(self, timeout_s: float) -> list[Message]:
        # The first alone: a batch would wait for its last.
        first = self._consumer.poll(timeout_s)
        if first is None:
            return []
        messages = []
        for message in [first, *self._consumer.consume(BATCH, 0)]:
            error = message.error()
            if error is None or error.code() == KafkaError._PARTITION_EOF:
                messages.append(message)
            elif error.fatal() or error.code() == KafkaError._FATAL:
                raise KafkaException(error)
            else:
                log.warning("the journal cannot be read: %s", error.str())
        return messages

    def _seen(self, message: Message) -> list[Seen]:
        """The record if it counts. `now_ms` moves on."""
        at_ms = message.timestamp()[1]
        self.now_ms = max(self.now_ms, at_ms)
        value = message.value() or b""
        if len(value) < HEADER.size:
            return []
        schema_id = HEADER.unpack_from(value)[1]
        name = self._names.get(schema_id)
        if name is None and time.monotonic() < self._ask_at.get(schema_id, 0):
            return []
        if name not in (None, "Completion", "Circuit"):
            return []
        try:
            name, record = self._codec.decode(value)
        except Exception as error:  # not a record we know, or one of the registry client's many kinds
            log.warning("%s[%s]@%s: %s", topics.JOURNAL, message.partition(), message.offset(), error)
            self._ask_at[schema_id] = time.monotonic() + ASK_AGAIN_S
            return []
        self._names[schema_id] = name
        if name == "Completion":
            return [Seen(at_ms, ended(cast(Completion, record)))]
        return [Seen(at_ms, cast(Circuit, record))] if name == "Circuit" else []


def _newest(seen: list[Seen]) -> list[Seen]:
    return sorted(seen, key=lambda s: s.at_ms)[-MAX_PAST:]
