"""A handle on a running stack: its addresses, its processes, and waiting for what must come true."""

from __future__ import annotations

import base64
import csv
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import openai

from infra.local.rest import Rest, Unreachable
from schemas import registry
from schemas.wire import Codec
from tests.e2e.configuration import HOOK_ENV, KEY_ENV

ROOT = Path(__file__).parents[2]
NAMES = ("HTTP", "KAFKA", "REGISTRY", "FLINK", "CONNECT", "S3", "REDIS")
T = TypeVar("T")


def eventually(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """The first true value of `condition`; AssertionError saying `what` was awaited if it does not come in time."""
    end = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"waited {timeout_s:.0f} s in vain for {what}"
        time.sleep(0.1)


def free_base() -> int:
    """The first of seven ports whose neighbourhood of a hundred is free.

    Below the range the kernel takes the near end of connections from: a port of ours must stay free while its owner
    is dead.
    """
    for _ in range(100):
        base = random.randrange(20_000, 31_900, 100)
        if all(_is_free(port) for port in range(base, base + 100)):
            return base
    raise AssertionError("no hundred free ports in a row")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class Stack:
    """One stack, started and stopped as an operator does."""

    def __init__(self, home: Path) -> None:
        self.home = home
        base = free_base()
        self.ports = {name: base + i for i, name in enumerate(NAMES)}
        ports = {f"MILLRACE_{name}_PORT": str(port) for name, port in self.ports.items()}
        self.key = f"sk-e2e-{random.randbytes(16).hex()}"
        self.hook_secret = f"whsec_{base64.b64encode(random.randbytes(32)).decode()}"
        secrets = {KEY_ENV: self.key, HOOK_ENV: self.hook_secret}
        self.env = {**os.environ, **ports, "MILLRACE_HOME": str(home), **secrets}
        # The checkout whose code runs.
        self.root = ROOT
        self.kafka = f"127.0.0.1:{self.ports['KAFKA']}"
        self.url = f"http://127.0.0.1:{self.ports['HTTP']}/v1"

    def command(self, *words: str, timeout_s: float = 240, **env: str) -> subprocess.CompletedProcess[str]:
        """`python -m infra.local ...`, as the Makefile runs it."""
        line = [sys.executable, "-m", "infra.local", *words]
        return subprocess.run(
            line, cwd=self.root, env={**self.env, **env}, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def run(self, *words: str, **env: str) -> str:
        """The same; AssertionError with its output if it fails."""
        done = self.command(*words, **env)
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def down(self) -> None:
        """`make down`; AssertionError if admission was not stopped with a savepoint."""
        done = self.command("down")
        assert done.returncode == 0 and "job admission stopped with a savepoint" in done.stderr, done.stderr

    def apply(self, folder: Path) -> None:
        """Publish a configuration, and wait until the gateway has it."""
        self.run("exec", "--", "python", "-m", "ingest.apply", str(folder))

    def sql(self, query: str) -> list[dict[str, str]]:
        """Rows of a query over the lake."""
        text = self.run("exec", "--", "python", "-m", "streams.lake_sql", Q=query)
        return list(csv.DictReader(io.StringIO(text)))

    def client(self, tenant: str, **more: Any) -> openai.OpenAI:
        """The SDK, unmodified."""
        return openai.OpenAI(base_url=self.url, api_key=f"mr-{tenant}", **more)

    def async_client(self, tenant: str, **more: Any) -> openai.AsyncOpenAI:
        """The SDK, unmodified, for many calls at once."""
        return openai.AsyncOpenAI(base_url=self.url, api_key=f"mr-{tenant}", **more)

    def codec(self) -> Codec:
        """A codec with the ids of this stack's registry."""
        return registry.connect(f"http://127.0.0.1:{self.ports['REGISTRY']}/apis/ccompat/v7")

    def pid(self, service: str) -> int:
        """The working process of a service; 0 while there is none."""
        try:
            pid = int((self.home / "run" / f"{service}.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return 0
        return pid

    def job(self) -> str:
        """The id under which admission was last submitted."""
        return (self.home / "flink" / "admission.id").read_text()

    def admitting(self) -> bool:
        """Whether all tasks of admission run, as far as the JobManager knows."""
        try:
            return Rest(f"http://127.0.0.1:{self.ports['FLINK']}").running(self.job())
        except Unreachable:
            return False

    def kill(self, service: str, sign: signal.Signals = signal.SIGKILL) -> None:
        """Kill a service and wait for its successor, whose process id must differ."""
        before = self.pid(service)
        assert before, f"{service} does not run"
        os.kill(before, sign)
        eventually(lambda: self.pid(service) not in (0, before), 60, f"a new {service} after {before}")
