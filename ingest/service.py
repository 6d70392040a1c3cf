"""The life of a service made of threads: it asks for the registry until that answers, then serves until its end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final, TypeVar

from schemas.addresses import Addresses

log = logging.getLogger(__name__)
T = TypeVar("T")

RETRY_S: Final = 1.0


def run(connect: Callable[[str], T], serve: Callable[[Addresses, T, threading.Event], None]) -> None:
    """Call `serve` with what `connect` makes of the registry's address, and an event that SIGTERM and SIGINT set."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    addresses = Addresses.of(os.environ)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            found = connect(addresses.registry)
        except Exception as error:  # the registry client's many kinds
            log.warning("the schema registry does not answer yet: %s", error)
            stop.wait(RETRY_S)
            continue
        serve(addresses, found, stop)
        return
