"""The worker process: `python -m workers.main`, told where everything is by its environment."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from schemas import registry
from schemas.addresses import Addresses
from schemas.wire import Codec
from workers.endpoint import Endpoint
from workers.ends import Ends
from workers.follow import Follower
from workers.intake import Intake
from workers.outbox import BATCH_LINGER_MS, Outbox
from workers.worker import DRAIN_S, Worker

log = logging.getLogger("workers")

RETRY_S: Final = 1.0
CATCH_UP_S: Final = 15.0
FLUSH_S: Final = 5.0
# Threads hand over between a C library and the event loop; Python's 5 ms would show in the latency.
SWITCH_S: Final = 0.0005


async def connect(url: str) -> Codec:
    """A codec of this registry; asks again until it answers."""
    while True:
        try:
            return await asyncio.to_thread(registry.connect, url)
        except Exception as error:  # The client raises what its HTTP library does, and which one that is varies.
            log.warning("waiting for the schema registry: %s", error)
            await asyncio.sleep(RETRY_S)


async def serve(addresses: Addresses, codec: Codec, stopping: asyncio.Event) -> None:
    """Serve until `stopping`."""
    outbox = Outbox(addresses.kafka, addresses.service)
    batch = Outbox(addresses.kafka, f"{addresses.service}-batch", BATCH_LINGER_MS)
    drain_s = float(os.environ.get("MILLRACE_DRAIN_S", DRAIN_S))
    worker = Worker(addresses.service, codec, outbox, drain_s, batch)
    follower = Follower(addresses.kafka, addresses.service, codec, worker.configure, worker.cancel)
    follower.start()
    endpoint = Endpoint(worker, Ends(addresses.kafka, addresses.service))
    await endpoint.open(addresses.http_host, addresses.signals_port)
    clock = asyncio.create_task(worker.membership.tend_always())
    stopped = asyncio.create_task(stopping.wait())
    log.info("%s is up", addresses.service)
    try:
        while not stopped.done():
            intake = Intake(addresses.kafka, addresses.service, worker.membership)
            worker.membership.attach(intake)
            ends: list[asyncio.Future[Any]] = [stopped, intake.failed, clock]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if clock.done():
                clock.result()
            if intake.failed.done():
                log.error("the consumer cannot go on, making another: %s", intake.failed.exception())
                await worker.membership.detach()
                await intake.close([])
                await asyncio.wait({stopped}, timeout=RETRY_S)
    finally:
        clock.cancel()
        stopped.cancel()
        await worker.drain()
        await endpoint.close()
        await follower.close()
        await asyncio.gather(outbox.close(FLUSH_S), batch.close(FLUSH_S))
        log.info("%s has left", addresses.service)


async def run(addresses: Addresses, make_codec: Callable[[str], Coroutine[Any, Any, Codec]] = connect) -> None:
    """The whole life of a worker, until SIGTERM or SIGINT."""
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    starting: asyncio.Task[Any] = asyncio.create_task(make_codec(addresses.registry))
    waiting: asyncio.Task[Any] = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if starting.done():
        await serve(addresses, starting.result(), stopping)
    starting.cancel()


def main() -> None:
    """Start from the environment."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    log.setLevel(logging.INFO)
    sys.setswitchinterval(SWITCH_S)
    uvloop.run(run(Addresses.of(os.environ)))


if __name__ == "__main__":
    main()
