"""One clear line when Kafka is away, in place of librdkafka's twenty a second."""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from confluent_kafka import KafkaError

log = logging.getLogger(__name__)

REPEAT_S: Final = 30.0


def quiet(client: str) -> dict[str, Any]:
    """Settings of a client called `client` that leave its complaints to us."""
    return {"log_level": 2, "error_cb": Outage(client)}


class Outage:
    """An error_cb: says that the brokers are away, at once and then every 30 s while it lasts."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._said_at = -REPEAT_S

    def __call__(self, error: KafkaError) -> None:
        """Take one error of the client."""
        if error.fatal():
            log.error("%s: Kafka client is out of order: %s", self._client, error.str())
        elif error.code() == KafkaError._ALL_BROKERS_DOWN and time.monotonic() - self._said_at >= REPEAT_S:
            self._said_at = time.monotonic()
            log.warning("%s: Kafka is away; trying again until it is back", self._client)
