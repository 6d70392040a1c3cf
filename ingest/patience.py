"""Waiting for what a process cannot begin without."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from confluent_kafka import KafkaException
from confluent_kafka.schema_registry.error import SchemaRegistryError

from ingest.batch_jobs import Stopped
from ingest.storage import StorageError

log = logging.getLogger(__name__)

RETRY_S: Final = 1.0

T = TypeVar("T")


def patiently(what: str, call: Callable[[], T], stop: threading.Event) -> T:
    """Call until it succeeds, once a second, with one line in the log each ten. Raises Stopped."""
    attempt = 0
    while not stop.is_set():
        try:
            return call()
        except (StorageError, SchemaRegistryError, KafkaException, OSError) as error:
            if attempt % 10 == 0:
                log.warning("waiting for %s: %s", what, error)
        attempt += 1
        stop.wait(RETRY_S)
    raise Stopped(what)
