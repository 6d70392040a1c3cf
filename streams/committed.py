"""Faust's aiokafka transport, reading only what transactions have committed: `usage` holds aborted records too.

Faust itself offers this only together with transactions of its own.
"""

from __future__ import annotations

from typing import Any, Final

from faust.transport.drivers import aiokafka as driver

GATHER_BYTES: Final = 128 * 1024
GATHER_MS: Final = 500


class CommittedThread(driver.AIOKafkaConsumerThread):
    """The consumer's thread, which creates its client."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # The fetcher takes it from here when the consumer starts. An aiokafka without it fails here, not silently.
        assert consumer._isolation_level == "read_uncommitted"
        consumer._isolation_level = "read_committed"
        # Few large answers while there is much; the view is late by GATHER_MS at most while there is little.
        assert consumer._fetch_min_bytes == 1
        consumer._fetch_min_bytes, consumer._fetch_max_wait_ms = GATHER_BYTES, GATHER_MS
        return consumer


class CommittedConsumer(driver.Consumer):
    """The consumer that runs CommittedThread."""

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return CommittedThread(self, loop=self.loop, beacon=self.beacon)


class CommittedTransport(driver.Transport):
    """The aiokafka transport with that consumer."""

    Consumer = CommittedConsumer
