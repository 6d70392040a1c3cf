"""Opens and closes circuits of pools, and takes failing canaries back: `python -m ingest.controller`.

It reads the journal and carries out what streams/steering.py decides: Circuit records for every tenant in the journal,
and one in `circuits` for those who do not read it; for a canary, a whole configuration published as `make apply` does.

It keeps nothing. At its start it reads the last minutes again, and what it said itself among them: so it knows what it
knew. Then it tells everybody everything once, for what was said before that nobody knows any more. A second controller
does no harm: it reads the same, decides the same or takes over what the other said, and publications exclude each
other.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from ingest import service
from ingest.brokers import quiet
from ingest.follower import Follower
from ingest.journal_reader import JournalReader, Seen
from ingest.publication import Publication, PublicationError
from schemas import config, kafka, registry, topics
from schemas.addresses import Addresses
from schemas.config import ConfigDocument
from schemas.records import Circuit
from schemas.wire import Codec
from streams import steering
from streams.steering import Ended, Steering, Tell

log = logging.getLogger(__name__)

# An open circuit is mentioned in the journal at least once a minute (streams.circuit.MAX_PAUSE_MS), so twice that finds
# each of them; a canary is judged by a minute unless its window says otherwise.
MEMORY_MS: Final = 120_000
POLL_S: Final = 0.5
RETRY_S: Final = 1.0
FLUSH_S: Final = 5.0


class Controller:
    """One consumer of the journal, one producer into it."""

    def __init__(
        self, addresses: Addresses, codec: Codec, ids: Mapping[str, int], follower: Follower, stop: threading.Event
    ) -> None:
        self._addresses, self._codec, self._follower, self._stop = addresses, codec, follower, stop
        self._steering = Steering()
        self._followed: ConfigDocument | None = None
        self._retry_at = 0.0
        self._faults: list[str] = []
        self._file = addresses.home / "run" / f"{addresses.service}.json"
        # No time limit: what was decided is told, however long Kafka is away, and in order.
        settings = kafka.producer(addresses.kafka, addresses.service, linger_ms=5) | {"message.timeout.ms": 0}
        self._producer = Producer({**settings, **quiet(addresses.service)})
        self._reader = JournalReader(addresses.kafka, addresses.service, codec, ids)

    def run(self) -> None:
        """Control until `stop` is set. Raises KafkaException when a client is out of order for good."""
        self._adopt(0)
        try:
            if self._remember():
                self._carry_out(self._steering.tell_all(self._reader.now_ms))
                self._report()
            while not self._stop.is_set():
                self._step()
        finally:
            self._producer.flush(FLUSH_S)
            self._reader.close()

    def _remember(self) -> bool:
        """Read the last minutes in the order of time, saying nothing; False if stopped meanwhile."""
        while not self._stop.is_set():
            try:
                past = self._reader.past(int(time.time() * 1000) - MEMORY_MS, self._stop)
            except KafkaException as error:
                log.warning("the journal cannot be read yet: %s", error)
                self._stop.wait(RETRY_S)
                continue
            for seen in past:
                self._take(seen)
            log.info("remembers %d attempts and circuits of the last %d s", len(past), MEMORY_MS // 1000)
            return not self._stop.is_set()
        return False

    def _step(self) -> None:
        """One round: (1) the configuration, (2) records, (3) what time alone changes, (4) canaries that are to go."""
        if self._follower.current is not self._followed:
            self._carry_out(self._adopt(self._reader.now_ms))
            self._report()
        for seen in self._reader.read(POLL_S):
            self._carry_out(self._take(seen))
        self._carry_out(self._steering.advance(self._reader.now_ms))
        if self._steering.due_back and time.monotonic() >= self._retry_at:
            self._take_back()
        self._producer.poll(0)
        if self._faults:
            raise KafkaException(KafkaError(KafkaError._FAIL, "; ".join(self._faults[:3])))

    def _adopt(self, now_ms: int) -> list[Tell]:
        """Live by the configuration that the follower found."""
        self._followed = self._follower.current
        assert self._followed is not None, "the first configuration was waited for"
        return self._steering.configure(self._followed, self._follower.published_at, now_ms)

    def _take(self, seen: Seen) -> list[Tell]:
        if isinstance(seen.what, Ended):
            return self._steering.complete(seen.what, seen.at_ms)
        self._steering.hear(seen.what)
        return []

    def _carry_out(self, tells: list[Tell]) -> None:
        for tell in tells:
            if tell.what:
                log.info("pool %s: %s", tell.pool, tell.what)
            for tenant in tell.tenants:
                self._produce(topics.JOURNAL, tenant, self._circuit(tenant, tell))
            self._produce(topics.CIRCUITS, tell.pool, self._circuit("", tell))
        if any(tell.what for tell in tells):
            self._report()

    def _circuit(self, tenant: str, tell: Tell) -> bytes:
        record: Circuit = {"tenant": tenant, "pool": tell.pool, "open": tell.is_open, "at": tell.at_ms}
        return self._codec.encode("Circuit", record)

    def _produce(self, topic: str, key: str, value: bytes) -> None:
        while not self._stop.is_set():
            try:
                self._producer.produce(topic, value, key.encode(), on_delivery=self._delivered)
                return
            except BufferError:
                self._producer.poll(POLL_S)

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._faults.append(f"{message.topic()}: {error.str()}")

    def _take_back(self) -> None:
        """Publish the live configuration without the canaries that failed, unless it is another one by now."""
        try:
            with Publication(self._addresses.kafka, self._codec, self._addresses.service) as publication:
                for model, why in list(self._steering.due_back.items()):
                    self._roll_back(publication, model, why)
        except (PublicationError, KafkaException) as error:
            log.warning("a canary was not taken back, trying again: %s", error)
            self._retry_at = time.monotonic() + RETRY_S

    def _roll_back(self, publication: Publication, model: str, why: str) -> None:
        decided_on, latest = self._steering.document, publication.latest
        assert decided_on is not None, "a canary belongs to a configuration"
        if latest is None or not steering.same_trial(latest, decided_on, model):
            # The operator, or another controller, was first.
            log.info("the canary of %s was changed by somebody else; it is left alone", model)
            del self._steering.due_back[model]
            return
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._reader.now_ms / 1000))
        document = config.without_share(latest, model, f"{why} ({at})")
        publication.publish(document)
        log.warning("the canary of %s is taken back: %s; configuration %s", model, why, document.version)
        self._carry_out(self._steering.configure(document, self._reader.now_ms, self._reader.now_ms))
        self._report()

    def _report(self) -> None:
        """Write what is not as it should be for `make status`."""
        document = self._steering.document
        assert document is not None, "there is something to report on"
        report = {"open": self._steering.open_pools(), "rolled_back": steering.rolled_back(document)}
        _replace(self._file, json.dumps(report, indent=1))


def _replace(path: Path, text: str) -> None:
    """A reader sees the old text or the new."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        draft.replace(path)
    except OSError as error:
        log.warning("%s cannot be written: %s", path, error)


def serve(addresses: Addresses, ids: Mapping[str, int], stop: threading.Event) -> None:
    """Run the controller until `stop` is set, once there is a configuration. `ids` are schema ids by name."""
    codec = registry.codec(addresses.registry, ids)
    follower = Follower(addresses.kafka, addresses.service, codec)
    follower.start()
    try:
        while not follower.wait(POLL_S):
            if stop.is_set():
                return
        Controller(addresses, codec, ids, follower, stop).run()
    finally:
        follower.stop()


def main() -> None:
    """Entry point of the process."""
    service.run(registry.publish, serve)


if __name__ == "__main__":
    main()
