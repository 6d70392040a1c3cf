"""Books a credit or a refund on a tenant's prepaid balance: `python -m ingest.credit TENANT MICROS [--refund REQUEST]`.

The entry is a record of the journal like any other; admission counts it once per id and writes the balance after it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from ingest.follower import Follower
from ingest.publication import QUIET, PublicationError, Writer
from schemas import kafka, registry, topics
from schemas.addresses import Addresses
from schemas.wire import Codec

# Rows of `credits` are shown by the next checkpoint of admission, every five seconds; one may just have failed.
SHOWN_WITHIN_S: Final = 30.0
TIMEOUT_S: Final = 10.0
MAX_REASON: Final = 500
# More than this, either way, is a slip of the keyboard: 10^15 micro-units are a billion.
MAX_MICROS: Final = 10**15


class BookingError(Exception):
    """An entry that was not booked; the message says why."""


class Asked(NamedTuple):
    """What is to be booked. `refund` is the request it is given back for, `id` the entry's own, if it has one."""

    tenant: str
    micros: int
    refund: str = ""
    reason: str = ""
    by: str = ""
    id: str = ""


def entry(asked: Asked, now_ms: int) -> dict[str, Any]:
    """The Credit record of what was asked. Raises BookingError where it makes no sense."""
    if not asked.micros or abs(asked.micros) > MAX_MICROS:
        raise BookingError(f"an entry is not 0 and at most {MAX_MICROS} micro-units")
    if asked.refund and asked.micros < 0:
        raise BookingError("a refund gives back, so its amount is positive")
    return {
        "tenant": asked.tenant,
        "entry_id": asked.id or str(uuid.uuid4()),
        "kind": "refund" if asked.refund else "credit",
        "amount_micros": asked.micros,
        "request_id": asked.refund,
        "reason": asked.reason[:MAX_REASON],
        "booked_by": asked.by or os.environ.get("USER", "operator"),
        "balance_micros": 0,
        "at": now_ms,
    }


def tenants(bootstrap: str, codec: Codec) -> tuple[str, ...]:
    """Tenants of the configuration that is live. Raises BookingError if none is found."""
    follower = Follower(bootstrap, "credit", codec)
    follower.start()
    try:
        if not follower.wait(TIMEOUT_S) or follower.current is None:
            raise BookingError(f"no configuration could be read within {TIMEOUT_S:.0f} s; is the stack up?")
        return follower.current.tenants
    finally:
        follower.stop()


def book(bootstrap: str, codec: Codec, record: dict[str, Any]) -> dict[str, Any] | None:
    """Write the entry, wait until admission has counted it; the row it wrote, or None if it was counted before.

    Raises PublicationError, KafkaException.
    """
    consumer = Consumer(kafka.consumer(bootstrap, "credit", "credit") | QUIET)
    try:
        consumer.assign([_end(consumer)])
        writer = Writer(bootstrap, "credit", f"entry {record['entry_id']}, which is safe to book again by --id")
        writer.write(topics.JOURNAL, record["tenant"].encode(), codec.encode("Credit", record))
        writer.wait()
        end = time.monotonic() + SHOWN_WITHIN_S
        while time.monotonic() < end:
            message = consumer.poll(0.5)
            value = message.value() if message is not None and message.error() is None else None
            row = codec.decode(value)[1] if value else {}
            if (row.get("tenant"), row.get("entry_id")) == (record["tenant"], record["entry_id"]):
                return row
        return None
    finally:
        consumer.close()


def _end(consumer: Consumer) -> TopicPartition:
    """The present end of the topic, as a number: OFFSET_END would be looked up after our own entry was written."""
    place = TopicPartition(topics.CREDITS, 0)
    end = consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)
    return TopicPartition(topics.CREDITS, 0, end[1] if end else OFFSET_END)


def run(addresses: Addresses, asked: Asked) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Book it; the record that was written, and the row that came of it, None where there was none in time.

    Raises BookingError.
    """
    try:
        codec = registry.connect(addresses.registry)
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        raise BookingError(f"the schema registry at {addresses.registry} failed: {error}") from None
    record = entry(asked, time.time_ns() // 1_000_000)
    if asked.tenant not in tenants(addresses.kafka, codec):
        raise BookingError(f"there is no tenant {asked.tenant!r} in the configuration; `make apply` publishes one")
    try:
        return record, book(addresses.kafka, codec, record)
    except (PublicationError, KafkaException) as error:
        raise BookingError(str(error)) from None


def told(record: dict[str, Any], row: dict[str, Any] | None) -> str:
    """What was booked, for a person."""
    if row is None:
        written = f"entry {record['entry_id']} is written"
        return f"{written}; no new row within {SHOWN_WITHIN_S:.0f} s: was it booked before?"
    booked = f"{row['kind']} of {row['amount_micros']} booked as {row['entry_id']}"
    return f"{booked}; the balance is {row['balance_micros']}"


def main() -> int:
    """Entry point; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ingest.credit", description=__doc__)
    parser.add_argument("tenant")
    parser.add_argument("micros", type=int, help="millionths of the currency unit; negative takes a credit back")
    parser.add_argument("--refund", metavar="REQUEST_ID", default="", help="the request it is given back for")
    parser.add_argument("--reason", default="")
    parser.add_argument("--by", default="")
    parser.add_argument("--id", default="", help="the entry's own id: booking it twice counts once")
    try:
        print(told(*run(Addresses.of(os.environ), Asked(**vars(parser.parse_args())))))
    except BookingError as error:
        print(f"not booked: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
