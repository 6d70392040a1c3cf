"""A worker without a registry: `python -m tests.bench.worker_alone`, with the environment of a worker."""

from __future__ import annotations

import logging
import os
import sys

import uvloop

from schemas.addresses import Addresses
from schemas.wire import Codec
from workers import main


async def codec(_url: str) -> Codec:
    """The codec with ids of its own, as the benchmark has it."""
    return Codec.offline()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(main.SWITCH_S)
    uvloop.run(main.run(Addresses.of(os.environ), codec))
