"""Settings that all Kafka clients of a worker share."""

from __future__ import annotations

from typing import Final

from schemas.kafka import Settings

# A broker that is away is asked for again every second. librdkafka would log each try of each client; what matters
# reaches us as errors, and is logged by whoever waits.
PATIENT: Final[Settings] = {"reconnect.backoff.ms": 100, "reconnect.backoff.max.ms": 1_000, "log_level": 2}
