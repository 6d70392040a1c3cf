"""Finishes the lake's partitions: finds those that are complete, writes each anew, marks it. Runs as a service.

`python -m streams.compactor` works until SIGTERM; what it knows it learns from Kafka, Flink and S3 at every start.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from confluent_kafka import KafkaException
from prometheus_client import Counter, Gauge, start_http_server

from schemas.addresses import Addresses
from streams import compaction, erasing, erasure, lake, manifest, partition
from streams.compaction import Place
from streams.completeness import LATER_CHECKPOINTS, Watch
from streams.erasure import Erasure
from streams.lake import Table
from streams.objects import Objects, ObjectsError, S3Objects
from streams.partition import Partition

log = logging.getLogger(__name__)

IDLE_S: Final = 60.0
# While something is about to be finished.
BUSY_S: Final = 5.0
# How far this machine's clock may be behind the broker's.
SKEW_MS: Final = 5_000
# Only days as old as the latest late row can still change; older ones are looked at once, at the start.
DAYS: Final = 10
# Schemas change when somebody deploys: they are looked at once in so many looks.
SCHEMA_LOOKS: Final = 20
JOB: Final = "lake"

BEHIND = Gauge("millrace_lake_behind_offsets", "Offsets of a topic that are in no file of the lake yet", ["table"])
OPEN = Gauge("millrace_lake_unfinished_partitions", "Partitions closed by the clock and not finished", ["table"])
ODD = Gauge("millrace_lake_odd_rows", "Rows that came late or at a time that cannot be", ["table", "kind"])
FINISHED = Counter("millrace_lake_finished_partitions", "Partitions finished by this process", ["table"])
ROWS = Counter("millrace_lake_finished_rows", "Rows in them", ["table"])
FAULTS = Counter("millrace_lake_faults", "Looks that failed, by what was away", ["part"])
CHECKPOINT = Gauge("millrace_lake_checkpoint_age_seconds", "Since the lake's job last completed a checkpoint")
AHEAD = Gauge("millrace_lake_newer_schemas", "Versions of its schema that the job does not know", ["table"])


class FlinkError(Exception):
    """The JobManager did not answer, or has no such job."""


class Checkpoint(NamedTuple):
    """The newest completed one."""

    number: int
    at_ms: int


def checkpoint(flink: str) -> Checkpoint:
    """The newest completed checkpoint of the lake's running job. Raises FlinkError."""
    jobs = _json(f"{flink}/jobs/overview")["jobs"]
    for job in jobs:
        if job["name"] == JOB and job["state"] == "RUNNING":
            newest = _json(f"{flink}/jobs/{job['jid']}/checkpoints")["latest"]["completed"]
            if newest:
                return Checkpoint(int(newest["id"]), int(newest["latest_ack_timestamp"]))
    raise FlinkError(f"no running job {JOB!r} with a checkpoint")


def _json(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.loads(answer.read())
    except (OSError, ValueError) as error:
        raise FlinkError(f"{url}: {error}") from error


class Compactor:
    """Looks again and again; each look does what can be done now and never raises for a part that is away."""

    def __init__(self, addresses: Addresses, objects: Objects) -> None:
        self._addresses = addresses
        self._objects = objects
        self._watch = Watch(addresses.kafka, addresses.service)
        self._finished: set[str] = set()
        # Topic and moment -> the checkpoint at which all of before it had been read.
        self._read: dict[tuple[str, int], int] = {}
        self._odd: dict[str, tuple[frozenset[str], int]] = {}
        self._erasures: list[Erasure] | None = None
        self._all_days = True
        self._looks = 0

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set."""
        busy = True
        while not stop.wait(BUSY_S if busy else IDLE_S):
            busy = self.look(time.time_ns() // 1_000_000)
        self._watch.close()

    def look(self, now_ms: int) -> bool:
        """One look at everything; whether something is about to be finished."""
        waiting = False
        self._erasures = None
        try:
            newest = checkpoint(self._addresses.flink)
            CHECKPOINT.set(max(0.0, (now_ms - newest.at_ms) / 1000))
        except FlinkError as error:
            FAULTS.labels("flink").inc()
            log.warning("%s", error)
            return True
        for table in lake.TABLES:
            try:
                BEHIND.labels(table.name).set(self._watch.behind(table.name))
                waiting |= self._look_at(table, newest.number, now_ms)
                if self._looks % SCHEMA_LOOKS == 0:
                    AHEAD.labels(table.name).set(self._newer(table))
            except KafkaException as error:
                FAULTS.labels("kafka").inc()
                log.warning("%s: %s", table.name, error)
                self._watch.begin_anew()
                waiting = True
            except ObjectsError as error:
                FAULTS.labels("s3").inc()
                log.warning("%s: %s", table.name, error)
                waiting = True
            except (OSError, ValueError) as error:
                FAULTS.labels("registry").inc()
                log.warning("%s: %s", table.name, error)
        if self._looks % SCHEMA_LOOKS == 0:
            self._sweep(now_ms)
        self._all_days = False
        self._looks += 1
        return waiting

    def _look_at(self, table: Table, newest: int, now_ms: int) -> bool:
        due = []
        for found in self._partitions(table, now_ms):
            place = Place(table, f"{table.name}/{found.folder}/")
            if place.key in self._finished:
                continue
            if found.hour in (partition.LATE, partition.STRANGE):
                self._count_odd(place, found)
            if found.closes_ms + SKEW_MS <= now_ms:
                due.append((found, place))
        for found, place in due:
            if self._is_complete(table, found.closes_ms, newest):
                self._finish(place, found)
        left = [place for _, place in due if place.key not in self._finished]
        OPEN.labels(table.name).set(len(left))
        for kind in ("late", "strange"):
            rows = [n for key, (_, n) in self._odd.items() if key.startswith(f"{table.name}/{kind}/")]
            ODD.labels(table.name, kind).set(sum(rows))
        return bool(left)

    def _sweep(self, now_ms: int) -> None:
        try:
            erasing.sweep(self._objects, now_ms)
        except ObjectsError as error:
            FAULTS.labels("s3").inc()
            log.warning("erasures whose time is over: %s", error)

    def _partitions(self, table: Table, now_ms: int) -> Iterator[Partition]:
        first = (datetime.fromtimestamp(now_ms / 1000, UTC) - timedelta(days=DAYS)).date()
        for day in self._objects.folders(f"{table.name}/"):
            if not self._all_days and day.removeprefix("dt=") < first.isoformat():
                continue
            for hour in self._objects.folders(f"{table.name}/{day}/"):
                found = partition.parse(f"{day}/{hour}")
                if found is not None:
                    yield found

    def _is_complete(self, table: Table, closes_ms: int, newest: int) -> bool:
        key = (table.name, closes_ms)
        seen = self._read.get(key)
        if seen is None or newest < seen:
            self._read.pop(key, None)
            if self._watch.has_read(table.name, closes_ms):
                self._read[key] = newest
            return False
        return newest >= seen + LATER_CHECKPOINTS

    def _finish(self, place: Place, found: Partition) -> None:
        names = self._objects.names(place.key)
        done = manifest.SUCCESS in names and not any(map(manifest.is_staged, names))
        if not done:
            made = compaction.compact(self._objects, place)
            if made is not None:
                FINISHED.labels(place.table.name).inc()
                ROWS.labels(place.table.name).inc(made.rows)
                log.info("%s: %d rows in %d files", place.key, made.rows, len(made.files))
            self._erasures = None  # what is stored from now on finds it finished
        if self._erasures is None:
            self._erasures = erasing.load(self._objects)
        # What was in no file yet when it was erased has come since.
        if cleaned := erasing.clean(self._objects, place, erasure.during(self._erasures, found)):
            log.info("%s: %d rows erased", place.key, cleaned)
        self._finished.add(place.key)

    def _count_odd(self, place: Place, found: Partition) -> None:
        """Rows of a partition for late rows or strange ones, counted anew when its files have changed."""
        kind = "late" if found.hour == partition.LATE else "strange"
        key = f"{place.table.name}/{kind}/{found.day}"
        names = frozenset(manifest.readable(self._objects.names(place.key), None))
        if self._odd.get(key, (frozenset(), 0))[0] != names:
            self._odd[key] = (names, compaction.rows_of(self._objects, place, sorted(names)))

    def _newer(self, table: Table) -> int:
        """Versions that were registered after the one this code has. Raises OSError, ValueError."""
        base = f"{self._addresses.registry}/subjects/{table.name}-value"
        own = json.dumps({"schema": json.dumps(lake.schema(table))}).encode()
        headers = {"content-type": "application/vnd.schemaregistry.v1+json"}
        with urllib.request.urlopen(urllib.request.Request(base, own, headers), timeout=5) as answer:
            mine = int(json.loads(answer.read())["version"])
        with urllib.request.urlopen(f"{base}/versions", timeout=5) as answer:
            return sum(version > mine for version in json.loads(answer.read()))


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    addresses = Addresses.of(os.environ)
    if addresses.signals_port:
        start_http_server(addresses.signals_port, addresses.http_host)
    log.info("%s is up", addresses.service)
    Compactor(addresses, S3Objects(addresses)).run(stop)


if __name__ == "__main__":
    main()
