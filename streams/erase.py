"""Erases a person: `python -m streams.erase --tenant acme --user alice`. Says what went, and proves that it is gone.

What one user (`safety_identifier` or `user` of a request) of a tenant has in the lake, in the tenant's cache, among the
replies that are kept for who repeats a request, and in dead letters. What was invoiced stays, and no longer says for
whom. Records of topics that are not compacted go by their age; the last lines say when.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from schemas import kafka, registry, topics
from schemas.addresses import Addresses
from schemas.wire import Codec
from streams import erasing, erasure, lake, lake_files, lake_sql, partition, subject
from streams.compaction import Place
from streams.erasure import Erasure
from streams.lake import Table
from streams.objects import Objects, ObjectsError, S3Objects
from streams.rereading import reread
from streams.topic_rows import Topic

IDS_AT_ONCE: Final = 1_000
PIECE: Final = 100
# Rows that are younger may be in no file yet, even if the lake's job was away for a while.
IN_TOPIC_MS: Final = 2 * partition.HOUR_MS
TIMEOUT_S: Final = 30.0
TABLES: Final = tuple(table for table in lake.TABLES if table.name in erasure.TABLES)


class EraseError(Exception):
    """It was not done, or not to its end; the message says why. Doing it again goes on."""


class Forgotten(NamedTuple):
    """What admission forgot."""

    answers: int
    replies: int


class Bill(NamedTuple):
    """What the requests of an erasure were billed."""

    rows: int
    tokens: int
    micros: int


class Done(NamedTuple):
    """What was erased, rows by table, and what is left of it, by place; `before` and `after` are the same bill."""

    erasure: Erasure
    forgotten: Forgotten
    changed: dict[str, int]
    left: dict[str, int]
    before: Bill
    after: Bill

    @property
    def proved(self) -> bool:
        """Whether nothing is left, and no invoice is another."""
        return not any(self.left.values()) and self.before == self.after


def erase(addresses: Addresses, codec: Codec, objects: Objects, tenant: str, user: str, now_ms: int) -> Done:
    """Erase. Raises EraseError, ObjectsError, KafkaException, duckdb.Error."""
    name = subject.of(tenant, user)
    ids = sorted({*_in_files(addresses, tenant, name), *_in_topic(addresses, codec, tenant, name, now_ms)})
    asked = Erasure(str(uuid.uuid4()), tenant, name, now_ms, tuple(ids))
    # First of all: from now on whatever is written anew is without the person.
    objects.put(erasure.key(asked), erasure.encode(asked))
    before = _bill(addresses, asked)
    forgotten = _forget(addresses, codec, asked)
    changed = {}
    for table in TABLES:
        folders = _folders(addresses, table, asked)
        changed[table.name] = sum(erasing.clean(objects, Place(table, key), [asked]) for key in folders)
    left = {f"files of {table.name}": len(_folders(addresses, table, asked)) for table in TABLES}
    left |= {f"records of {name}": _named(addresses, name, asked) for name in _compacted()}
    return Done(asked, forgotten, changed, left, before, _bill(addresses, asked))


def _in_files(addresses: Addresses, tenant: str, name: str) -> list[str]:
    query = 'SELECT DISTINCT request_id FROM usage WHERE tenant = $1 AND "user" = $2'
    return [row[0] for row in lake_sql.connect(addresses).execute(query, [tenant, name]).fetchall()]


def _in_topic(addresses: Addresses, codec: Codec, tenant: str, name: str, now_ms: int) -> Iterator[str]:
    topic = Topic(addresses.kafka, topics.USAGE, codec)
    try:
        for row in topic.rows(now_ms - IN_TOPIC_MS, now_ms + 1):
            if (row.record["tenant"], row.record["user"]) == (tenant, name):
                yield row.record["request_id"]
    finally:
        topic.close()


def _bill(addresses: Addresses, asked: Erasure) -> Bill:
    db = lake_sql.connect(addresses)
    db.register("ids", pa.table({"request_id": pa.array(asked.request_ids, pa.string())}))
    query = (
        "SELECT count(*), coalesce(sum(input_tokens + output_tokens), 0)::BIGINT, "
        "coalesce(sum(cost_micros), 0)::BIGINT "
        "FROM usage WHERE tenant = $1 AND request_id IN (SELECT request_id FROM ids)"
    )
    row = db.execute(query, [asked.tenant]).fetchone()
    assert row is not None
    return Bill(*row)


def _folders(addresses: Addresses, table: Table, asked: Erasure) -> list[str]:
    """Partitions of a table (their keys) that have something to erase."""
    db = lake_sql.bare(addresses)
    files = lake_files.find(db, addresses, table.name)
    if not files:
        return []
    source = f"read_parquet([{', '.join(map(lake.quote, files))}], union_by_name = true, filename = true)"
    if table.name == topics.DEAD_LETTERS:
        query = f'SELECT filename, value, epoch_ms("{table.time}") FROM {source} WHERE tenant = $1'
        letters = _in_pieces(db.execute(query, [asked.tenant]))
        found = {path for path, value, at_ms in letters if erasure.concerns([asked], asked.tenant, value, at_ms)}
    else:
        theirs = erasing.condition(db, table, source, [asked])
        found = {path for (path,) in db.execute(f"SELECT DISTINCT filename FROM {source} r WHERE {theirs}").fetchall()}
    places = {partition.parse(path) for path in found}
    return sorted(f"{table.name}/{place.folder}/" for place in places if place is not None)


def _in_pieces(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    """Rows of a result whose values may be large."""
    while rows := result.fetchmany(PIECE):
        yield from rows


def _forget(addresses: Addresses, codec: Codec, asked: Erasure) -> Forgotten:
    """Let admission forget; returns once it has."""
    ids = asked.request_ids
    pieces = [list(ids[i : i + IDS_AT_ONCE]) for i in range(0, len(ids), IDS_AT_ONCE)] or [[]]
    consumer = Consumer(kafka.consumer(addresses.kafka, "erase", "erase"))
    try:
        consumer.assign([TopicPartition(topics.ERASURES, 0, _end(consumer))])
        producer = Producer(kafka.producer(addresses.kafka, "erase"))
        for number, piece in enumerate(pieces, start=1):
            record = {
                "tenant": asked.tenant, "erasure_id": asked.id, "part": number, "parts": len(pieces),
                "request_ids": piece, "answers": 0, "replies": 0, "at": asked.at_ms,
            }  # fmt: skip
            producer.produce(topics.JOURNAL, codec.encode("Erasure", record), asked.tenant.encode())
        if producer.flush(TIMEOUT_S):
            raise EraseError(f"Kafka did not take the erasure within {TIMEOUT_S:.0f} s")
        return _told(consumer, codec, asked, len(pieces))
    finally:
        consumer.close()


def _end(consumer: Consumer) -> int:
    """The present end of `erasures`, as a number: it would be looked up after our own record was answered."""
    marks = consumer.get_watermark_offsets(TopicPartition(topics.ERASURES, 0), timeout=TIMEOUT_S)
    return int(marks[1])


def _told(consumer: Consumer, codec: Codec, asked: Erasure, parts: int) -> Forgotten:
    rows: dict[int, dict[str, Any]] = {}
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        message = consumer.poll(0.5)
        value = message.value() if message is not None and message.error() is None else None
        row = codec.decode(value)[1] if value else {}
        if row.get("erasure_id") == asked.id:
            rows.setdefault(row["part"], row)  # a replay tells again, and finds nothing to forget
            if len(rows) == parts:
                return Forgotten(*(sum(row[name] for row in rows.values()) for name in ("answers", "replies")))
    raise EraseError(f"admission did not answer within {TIMEOUT_S:.0f} s; is the stack up? Erase again to go on")


def _compacted() -> list[str]:
    """Topics that keep a record for as long as it is the latest of its key."""
    return [topic.name for topic in topics.FIXED if "compact" in topic.cleanup]


def _named(addresses: Addresses, name: str, asked: Erasure) -> int:
    """How many records of a topic name the user."""
    (declared,) = [topic for topic in topics.FIXED if topic.name == name]
    values = (
        line.value
        for number in range(declared.partitions)
        for line in reread(addresses.kafka, "erase", name, number, 0)[0]
    )
    return sum(asked.user.encode() in value or asked.user in erasure.users(asked.tenant, value) for value in values)


def report(done: Done, user: str) -> Iterator[str]:
    """What was done, and what that proves, for a person."""
    asked = done.erasure
    yield f"{user} of {asked.tenant}: {len(asked.request_ids)} requests (erasure {asked.id})"
    yield f"  admission: {done.forgotten.answers} answers of the cache, {done.forgotten.replies} kept replies forgotten"
    for name, rows in done.changed.items():
        yield f"  {name}: {rows} rows " + ("name nobody now" if name == topics.USAGE else "gone")
    left = ", ".join(f"{count} {what}" for what, count in done.left.items() if count)
    yield f"  left: {left or 'nothing, in any file of the lake or compacted topic'}"
    same = "as before" if done.before == done.after else f"NOT as before, when it was {done.before.micros}"
    yield f"  billed for them: {done.after.micros} micro-units in {done.after.rows} rows, {same}"
    for days, names in _retention():
        until = datetime.fromtimestamp(asked.at_ms / 1000 + days * 86_400, UTC)
        yield f"  gone by {until:%Y-%m-%d %H:%M} UTC, by their age: {', '.join(names)}"


def _retention() -> Iterable[tuple[int, list[str]]]:
    """Topics that carry what a person asked or was answered, by the days for which they keep it."""
    carried = [t for t in topics.FIXED if t.name in (topics.JOURNAL, topics.BATCH_RESULTS, *erasure.TABLES)]
    carried += [topics.work("<pool>", "<lane>"), topics.intake("<tenant>"), topics.answers("<tenant>")]
    found: dict[int, list[str]] = {}
    for topic in carried:
        found.setdefault(topic.retention_ms // topics.DAY_MS, []).append(topic.name)
    return sorted(found.items())


def main() -> int:
    """Entry point; the exit status: 0 if it is proved, 1 if not, 2 if it could not be done."""
    parser = argparse.ArgumentParser(prog="python -m streams.erase", description=__doc__)
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--user", required=True, help="as requests name the person: `safety_identifier` or `user`")
    args = parser.parse_args()
    if not args.user or not args.tenant:
        parser.error("neither may be empty")
    addresses = Addresses.of(os.environ)
    try:
        codec = registry.connect(addresses.registry)
        now_ms = time.time_ns() // 1_000_000
        done = erase(addresses, codec, S3Objects(addresses), args.tenant, args.user, now_ms)
    except (EraseError, ObjectsError, KafkaException, TimeoutError, duckdb.Error, OSError) as error:
        print(f"not erased: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print("\n".join(report(done, args.user)))
    return 0 if done.proved else 1


if __name__ == "__main__":
    sys.exit(main())
