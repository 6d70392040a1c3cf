"""Where the logs of our partitions end: asked of Kafka when somebody wants to know, not on the way of any work.

What the consumer knows of it is as old as its last fetch, and a partition that is paused, because too much waits, is
not fetched.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Final

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from workers.client import PATIENT
from workers.partitions import Place

log = logging.getLogger(__name__)

ASK_S: Final = 2.0
FRESH_S: Final = 1.0


class Ends:
    """The offsets of the next records, by (topic, partition)."""

    def __init__(self, bootstrap: str, service: str) -> None:
        self._settings = {"bootstrap.servers": bootstrap, "client.id": f"{service}-ends", **PATIENT}
        # Made when somebody asks: a worker whose signals nobody reads has no use for one more client.
        self._admin: AdminClient | None = None
        self._known: dict[Place, int] = {}
        self._asked = 0.0

    async def of(self, places: Iterable[Place]) -> dict[Place, int]:
        """The ends of these; as they were last known where Kafka does not answer, absent where that is not known."""
        wanted = list(places)
        if wanted and (time.monotonic() - self._asked > FRESH_S or any(place not in self._known for place in wanted)):
            self._asked = time.monotonic()
            await self._ask(wanted)
        return {place: self._known[place] for place in wanted if place in self._known}

    async def _ask(self, wanted: list[Place]) -> None:
        self._admin = self._admin or AdminClient(self._settings)
        try:
            latest: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
            asked = self._admin.list_offsets({TopicPartition(*p): latest for p in wanted}, request_timeout=ASK_S)
            answers = await asyncio.gather(*(asyncio.wrap_future(f) for f in asked.values()), return_exceptions=True)
        except KafkaException as error:
            log.warning("ends of the logs: %s", error)
            return
        known = {}
        for place, answer in zip(asked, answers, strict=True):
            if not isinstance(answer, BaseException):
                known[str(place.topic), int(place.partition)] = int(answer.offset)
        self._known = {**{p: n for p, n in self._known.items() if p in wanted}, **known}
