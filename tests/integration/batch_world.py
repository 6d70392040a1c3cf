"""What tests of the batcher share: the batcher as a process, and what a gateway would do with files and batches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from batch_admission import BatchAdmission
from confluent_kafka import Producer
from parts import Parts, await_

from ingest import batch_orders, file_object, ids, places
from ingest.batch_object import TERMINAL, Batch
from ingest.batch_store import BatchStore, Promise
from ingest.batches import document, read_order
from ingest.file_object import FileObject
from ingest.services import s3_client
from ingest.storage import Storage
from schemas import config, config_check, topics
from schemas import kafka as kafka_settings
from schemas.addresses import Addresses
from schemas.config import Principal
from schemas.wire import Codec

MODELS: dict[str, Any] = {
    "tenants": {
        **{t: {"keys": [{"name": "demo", "key": f"key-{t}"}]} for t in ("acme", "globex")},
        "tight": {
            "keys": [{"name": "demo", "key": "key-tight"}],
            "limits": [{"on": "requests", "per": "minute", "max": 1_000}],
        },
        "owner": {"keys": [{"name": "demo", "key": "key-owner"}], "batch_uris": ["s3://theirs/in", "s3://theirs/out/"]},
    },
    "pools": {"p": {"engine": "echo"}},
    "models": {"echo": {"route": ["p"]}, "other": {"route": ["p"]}},
    "aliases": {"default": "echo"},
}


class World:
    """Parts, and what a gateway would do with them."""

    def __init__(self, parts: Parts, codec: Codec) -> None:
        self.parts = parts
        self.codec = codec
        if "s3" not in parts.processes:
            parts.start("s3")
        self.addresses = Addresses.of(parts.environment("batcher"))
        self.storage = Storage(s3_client(self.addresses), self.addresses.bucket)
        self.store = BatchStore(self.storage)
        self._producer = Producer(kafka_settings.producer(self.addresses.kafka, "test"))
        self._processes: list[subprocess.Popen[bytes]] = []
        text = config.encode(config.document(config_check.parse(MODELS)))
        self._send(topics.CONFIG, "config", "Config", {"version": "1", "document": text})

    def _send(self, topic: str, key: str, name: str, record: dict[str, Any]) -> None:
        self._producer.produce(topic, self.codec.encode(name, record), key.encode())
        assert self._producer.flush(10) == 0

    def batcher(self, service: str = "batcher") -> subprocess.Popen[bytes]:
        """Start a batcher."""
        return self._process(service, "ingest.batcher")

    def gateway(self) -> str:
        """Start a gateway; the base URL of its API, once it is healthy."""
        self._gateway = self._process("gateway", "ingest.gateway")
        url = f"http://127.0.0.1:{self.parts.settings.port('HTTP')}"
        await_(lambda: _healthy(url), "a healthy gateway", 60)
        return f"{url}/v1"

    @property
    def gateway_pid(self) -> int:
        """The process that was started last."""
        return self._gateway.pid

    def kill_gateway(self) -> None:
        """End the gateway as a crash does."""
        self._gateway.kill()
        self._gateway.wait(15)

    def _process(self, service: str, module: str) -> subprocess.Popen[bytes]:
        log = (self.parts.settings.home / f"{service}.log").open("ab")
        environment = self.parts.environment(service)
        process = subprocess.Popen([sys.executable, "-m", module], env=environment, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def upload(self, content: bytes, tenant: str = "acme") -> str:
        """A file's id."""
        now_ms = time.time_ns() // 1_000_000
        file_id = ids.newest_first(ids.FILE, now_ms, os.urandom(8))
        self.storage.put(places.file_content(tenant, file_id), content)
        file = FileObject(file_id, len(content), now_ms // 1000, "in.jsonl", "batch")
        self.storage.put(places.file_object(tenant, file_id), file_object.encode(file))
        return file_id

    def create(self, content: bytes, tenant: str = "acme", window: str = "24h") -> str:
        """A batch's id, of a batch whose input is `content`."""
        asked = {
            "input_file_id": self.upload(content, tenant),
            "endpoint": "/v1/chat/completions",
            "completion_window": window,
        }
        now_ms = time.time_ns() // 1_000_000
        promise = Promise(ids.newest_first(ids.BATCH, now_ms, os.urandom(8)), now_ms, "")
        batch = self.store.create(document(read_order(asked), Principal(tenant, "demo", ("client",)), promise))
        self._command(tenant, batch.id, "start")
        return batch.id

    def _command(self, tenant: str, batch_id: str, command: str) -> None:
        record = {"tenant": tenant, "batch_id": batch_id, "command": command, "at": 0}
        self._send(topics.BATCH_COMMANDS, batch_id, "BatchCommand", record)

    def circuit(self, pool: str, *, is_open: bool) -> None:
        """Say of a pool what the controller would."""
        record = {"tenant": "", "pool": pool, "open": is_open, "at": time.time_ns() // 1_000_000}
        self._send(topics.CIRCUITS, pool, "Circuit", record)

    def cancel(self, batch_id: str, tenant: str = "acme") -> Batch:
        """Cancel as the gateway does."""
        return self.order(batch_id, batch_orders.cancel, "cancel", tenant)

    def order(self, batch_id: str, order: batch_orders.Order, name: str, tenant: str = "acme") -> Batch:
        """Give an order as the gateway does."""
        batch = self.store.order(tenant, batch_id, order, time.time_ns() // 1_000_000)
        self._command(tenant, batch_id, name)
        return batch.batch

    def get(self, batch_id: str, tenant: str = "acme") -> Batch:
        """The batch as it is shown."""
        return self.store.get(tenant, batch_id)

    def ended(self, batch_id: str, tenant: str = "acme", timeout_s: float = 60) -> Batch:
        """The batch, once it has ended."""
        await_(lambda: self.get(batch_id, tenant).status in TERMINAL, f"end of {batch_id}", timeout_s)
        return self.get(batch_id, tenant)

    def lines(self, file_id: str | None, tenant: str = "acme") -> list[dict[str, Any]]:
        """The lines of an output or error file."""
        if file_id is None:
            return []
        content = self.storage.get(places.file_content(tenant, file_id)).body
        file = file_object.decode(self.storage.get(places.file_object(tenant, file_id)).body)
        assert (file.bytes, file.purpose) == (len(content), "batch_output")
        return [orjson.loads(line) for line in content.splitlines()]

    @property
    def started(self) -> int:
        """How many processes were started up to now."""
        return len(self._processes)

    def close(self, since: int = 0) -> None:
        """End all processes but the first `since` ones."""
        for process in self._processes[since:]:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self._processes[since:]:
            process.wait(15)


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(scope="module")
def world(parts: Parts, kafka: str, codec: Codec) -> Iterator[World]:
    """A world on the parts of the session; its processes end with the module."""
    assert kafka
    made = World(parts, codec)
    yield made
    made.close()


@pytest.fixture
def admission(world: World) -> Iterator[BatchAdmission]:
    """A double of admission."""
    double = BatchAdmission(world.addresses.kafka, world.codec)
    yield double
    double.close()


@pytest.fixture
def own_processes(world: World) -> Iterator[None]:
    """Ends what a test started with it, so that one that fails leaves no batcher to the next."""
    started = world.started
    yield
    world.close(started)


def line(number: int, content: str | None = None, **changes: Any) -> dict[str, Any]:
    """A good line."""
    messages = [{"role": "user", "content": f"line {number}" if content is None else content}]
    body = {"model": "echo", "messages": messages}
    return {"custom_id": f"c{number}", "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def jsonl(lines: list[dict[str, Any]]) -> bytes:
    """A file."""
    return b"".join(orjson.dumps(value) + b"\n" for value in lines)
