"""Reads dead letters and writes their bytes back to where they came from."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, cast

from confluent_kafka import Consumer, Message, TopicPartition

from ingest import letters
from ingest.letters import Letter
from ingest.publication import QUIET, Writer
from schemas import kafka, topics
from schemas.records import DeadLetter
from schemas.wire import Codec, WireError

TIMEOUT_S: Final = 10.0
BATCH: Final = 200


class LetterError(Exception):
    """The letters cannot be read; the message says why."""


def read(bootstrap: str, codec: Codec) -> Iterator[Letter]:
    """All letters that are there now, oldest first. Raises LetterError, KafkaException."""
    replayed = {record["letter"] for _, record in _records(bootstrap, codec, topics.REPLAYS)}
    for number, record in _records(bootstrap, codec, topics.DEAD_LETTERS):
        yield Letter(number, cast(DeadLetter, record), number in replayed)


def replay(bootstrap: str, codec: Codec, chosen: Iterator[Letter], by: str) -> Iterator[tuple[Letter, str]]:
    """Replay letters; each with why it was not, or an empty string.

    (1) Bytes go back to their topic; (2) Kafka has them; (3) this is noted. Broken off in between, they go back once
    more the next time: under the identity of the first time, so that admission takes each once.

    Raises PublicationError, LetterError, KafkaException.
    """
    records = Writer(bootstrap, "dead-letters", "all records, which are safe to replay again")
    notes = Writer(bootstrap, "dead-letters", "the note of what was replayed; to replay it again is harmless")
    waiting: list[Letter] = []

    def settle() -> Iterator[tuple[Letter, str]]:
        records.wait()
        now_ms = time.time_ns() // 1_000_000
        for letter in waiting:
            note = codec.encode("Replay", letters.replay(letter, by, now_ms))
            notes.write(topics.REPLAYS, letter.record["tenant"].encode(), note)
        notes.wait()
        yield from ((letter, "") for letter in waiting)
        waiting.clear()

    for letter in chosen:
        if why := letters.obstacle(letter):
            yield letter, why
            continue
        record = letter.record
        # The same partition: a device's records stay together.
        records.write(
            record["source_topic"], record["key"], record["value"], headers=letters.headers(letter),
            partition=record["partition"],
        )  # fmt: skip
        waiting.append(letter)
        if len(waiting) == BATCH:
            yield from settle()
    yield from settle()


def _records(bootstrap: str, codec: Codec, topic: str) -> Iterator[tuple[int, dict[str, object]]]:
    """(offset, record) from the beginning to what is now the end of a topic of one partition."""
    consumer = Consumer(kafka.consumer(bootstrap, "dead-letters", "dead-letters") | QUIET)
    try:
        place = TopicPartition(topic, 0)
        bounds = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
        if bounds is None:
            raise LetterError(f"the topic {topic} cannot be read: Kafka does not answer")
        first, end = bounds
        if first == end:
            return
        consumer.assign([TopicPartition(topic, 0, first)])
        while True:
            message = consumer.poll(TIMEOUT_S)
            if message is None:
                raise LetterError(f"the topic {topic} cannot be read: nothing came for {TIMEOUT_S:.0f} s")
            if (error := message.error()) is not None:
                raise LetterError(f"the topic {topic} cannot be read: {error.str()}")
            yield from _record(message, codec)
            if (message.offset() or 0) + 1 >= end:
                return
    finally:
        consumer.close()


def _record(message: Message, codec: Codec) -> Iterator[tuple[int, dict[str, object]]]:
    try:
        yield message.offset() or 0, codec.decode(message.value() or b"")[1]
    except WireError:
        return  # not ours
