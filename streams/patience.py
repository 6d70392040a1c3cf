"""Waiting for parts that are away: for as long as it takes, with one line when it begins and one when it ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

log: Final = logging.getLogger("live")
T = TypeVar("T")

BACKOFF_S: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
QUIET_S: Final = 15.0


def _pause_s(failures: int) -> float:
    return BACKOFF_S[min(failures, len(BACKOFF_S) - 1)]


def keep_trying(what: str, call: Callable[[], T]) -> T:
    """The result of `call`; whatever it raises means "not yet"."""
    failures = 0
    while True:
        try:
            result = call()
        except Exception as error:  # each client raises its own kinds
            if failures == 0:
                log.warning("%s is away (%s: %s); trying again", what, type(error).__name__, error)
            time.sleep(_pause_s(failures))
            failures += 1
            continue
        if failures:
            log.info("%s is back", what)
        return result


async def keep_trying_async(what: str, call: Callable[[], Awaitable[T]], faults: tuple[type[Exception], ...]) -> T:
    """The result of `call`; `faults` mean "not yet", anything else is raised."""
    failures = 0
    while True:
        try:
            result = await call()
        except faults as error:
            if failures == 0:
                log.warning("%s is away (%s: %s); trying again", what, type(error).__name__, error)
            await asyncio.sleep(_pause_s(failures))
            failures += 1
            continue
        if failures:
            log.info("%s is back", what)
        return result


class Sparing(logging.Filter):
    """Lets one line of the Kafka client through in QUIET_S: while a broker is away it writes forty a second."""

    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if not record.name.startswith("aiokafka"):
            return True
        due = record.created >= self._next_s
        if due:
            self._next_s = record.created + QUIET_S
        return due
