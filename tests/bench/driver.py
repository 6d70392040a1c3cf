"""What the benchmarks share: the running stack, percentiles, an open-loop load of echo calls, and progress."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import orjson
import psutil
from confluent_kafka import Consumer, KafkaException, TopicPartition

from schemas import kafka, registry, topics
from schemas.addresses import Addresses
from schemas.config import ConfigDocument, decode_config
from schemas.wire import Codec
from tests.bench.report import Unmeasured

CALL_TIMEOUT_S: Final = 20.0
CONNECTIONS: Final = 256
ASK_S: Final = 5.0
# Letters only: every thousandth UUID in hex has digits in it that pass for a card number, and would be masked.
LETTERS: Final = str.maketrans("0123456789", "ghijklmnop")
WORDS: Final = "please tell me where my parcel is and when it will be delivered to the house"


@dataclass(frozen=True, slots=True)
class Stack:
    """A running stack and the configuration that is live in it. The key is of a tenant with room for the load."""

    addresses: Addresses
    codec: Codec
    document: ConfigDocument
    key: str

    @property
    def url(self) -> str:
        """Where the gateway listens."""
        return f"http://{self.addresses.http_host}:{self.addresses.http_port}"


def find(env: Mapping[str, str]) -> Stack:
    """The stack that `env` speaks of. Raises Unmeasured if it is not up."""
    try:
        addresses = Addresses.of(env)
    except KeyError as error:
        raise Unmeasured(f"{error} is not set: run this by `make bench`") from None
    if not (addresses.home / "run" / "gateway.pid").exists():
        raise Unmeasured(f"no stack runs in {addresses.home}: start it by `make up`")
    try:
        codec = registry.connect(addresses.registry)
        document = live_config(addresses.kafka, codec)
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        raise Unmeasured(f"the stack in {addresses.home} does not answer ({error}): look at `make status`") from None
    return Stack(addresses, codec, document, env.get("MILLRACE_BENCH_KEY", "mr-acme-demo"))


def live_config(bootstrap: str, codec: Codec) -> ConfigDocument:
    """The configuration published last. Raises Unmeasured if there is none, KafkaException."""
    consumer = Consumer(kafka.consumer(bootstrap, "bench", "bench"))
    latest: ConfigDocument | None = None
    try:
        low, high = consumer.get_watermark_offsets(TopicPartition(topics.CONFIG, 0), timeout=ASK_S)
        consumer.assign([TopicPartition(topics.CONFIG, 0, low)])
        at, until = low, time.monotonic() + ASK_S
        while at < high and time.monotonic() < until:
            message = consumer.poll(ASK_S)
            if message is None:
                break
            if message.error() is not None:
                raise KafkaException(message.error())
            at = int(message.offset() or 0) + 1
            latest = decode_config(codec.decode(message.value() or b"")[1]["document"])
    finally:
        consumer.close()
    if latest is None:
        raise Unmeasured("no configuration is published: run `make apply CONFIG=config`")
    return latest


def percentile(values: Sequence[float], p: float) -> float:
    """The smallest value that at least the share `p` of all values does not exceed (nearest rank, exact)."""
    if not values:
        raise Unmeasured("no call was answered")
    return sorted(values)[max(0, math.ceil(p * len(values)) - 1)]


def prompt(words: str = WORDS) -> str:
    """A prompt that nobody has sent before."""
    return f"{words} {uuid.uuid4().hex.translate(LETTERS)}"


@dataclass(slots=True)
class Load:
    """Latencies in ms, counted from the moment a call was due, and what went wrong, by reason."""

    latencies_ms: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def fail(self, reason: str) -> None:
        """Count one failure."""
        self.failures[reason] = self.failures.get(reason, 0) + 1

    @property
    def note(self) -> str:
        """The failures in words, or nothing."""
        return ", ".join(f"{n} failed: {reason}" for reason, n in self.failures.items())


class Caller:
    """Sends unique chat calls to the model `echo` at `url` and checks the answers. Connections are kept."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=60)
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout)

    async def load(self, count: int, per_second: float) -> Load:
        """`count` calls on a fixed schedule, whether earlier ones were answered or not (open loop)."""
        load, loop = Load(), asyncio.get_running_loop()
        began = loop.time() + 0.1
        tasks = []
        for number in range(count):
            due = began + number / per_second
            await asyncio.sleep(due - loop.time())
            tasks.append(asyncio.create_task(self._call(due, load)))
        await asyncio.gather(*tasks)
        return load

    async def _call(self, due: float, load: Load) -> None:
        text = prompt()
        body = {"model": "echo", "temperature": 0, "messages": [{"role": "user", "content": text}]}
        try:
            async with self._session.post(self._url, data=orjson.dumps(body)) as response:
                answer = await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            load.fail(type(error).__name__)
            return
        ended = asyncio.get_running_loop().time()
        if response.status != 200:
            load.fail(f"HTTP {response.status}")
        elif orjson.loads(answer)["choices"][0]["message"]["content"] != text:
            load.fail("wrong answer")
        else:
            load.latencies_ms.append((ended - due) * 1000)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def say(text: str, *, passing: bool = False) -> None:
    """A line of progress on stderr; a passing one is overwritten by the next, and left out of a log."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="" if passing else "\n", file=sys.stderr, flush=True)
    elif not passing:
        print(text, file=sys.stderr, flush=True)


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop a child of ours."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), 10)
        except TimeoutError:
            process.kill()
            await process.wait()


def services(stack: Stack) -> dict[str, psutil.Process]:
    """The stack's processes by service, from run/*.pid. Raises Unmeasured if one is not there."""
    found = {}
    for path in sorted((stack.addresses.home / "run").glob("*.pid")):
        try:
            found[path.stem] = psutil.Process(int(path.read_text()))
        except (psutil.Error, ValueError, OSError):
            raise Unmeasured(f"{path.stem} does not run: look at `make status`") from None
    return found


def loads() -> list[float]:
    """Load averages of the machine over 1, 5 and 15 minutes."""
    return [round(load, 2) for load in os.getloadavg()]
