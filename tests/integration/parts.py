"""Starts real parts of a stack, one by one, on free ports and in a folder of their own."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from infra.local.services import BY_NAME
from infra.local.settings import HOST, NAMES, Settings


def free_ports(count: int) -> list[int]:
    """Ports that are free now, with those 90 above each."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 31_000)
        if all(abs(port - other) > 100 for other in found) and all(_free(port + d) for d in (0, 50, 60)):
            found.append(port)
    return found


def _free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex((HOST, port)) != 0


def await_(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    """Wait until `condition` holds."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {timeout_s} s"
        time.sleep(0.05)


def answers(port: int) -> Callable[[], bool]:
    """Whether somebody listens on a port."""
    return lambda: not _free(port)


class Parts:
    """Real parts under one folder. `start` takes a service's name as in infra.local."""

    def __init__(self, folder: Path) -> None:
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        env = {f"MILLRACE_{name}_PORT": str(port) for name, port in ports.items()}
        self.settings = Settings.read({**env, "MILLRACE_HOME": str(folder)})
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        (self.settings.runtime / "cds").mkdir(parents=True, exist_ok=True)

    @property
    def bootstrap(self) -> str:
        """Kafka's address."""
        return f"{HOST}:{self.settings.port('KAFKA')}"

    def environment(self, service: str) -> dict[str, str]:
        """Environment of a process of ours."""
        return {**os.environ, **self.settings.environment(service)}

    def begin(self, name: str) -> None:
        """Start one part; another may be started while it comes up."""
        service = BY_NAME[name]
        service.prepare(self.settings)
        environment = {**self.environment(name), **service.environment(self.settings)}
        command = service.command(self.settings)
        with (self.settings.home / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def start(self, name: str) -> None:
        """Start one part, if it was not begun, and wait until it listens."""
        if name not in self.processes:
            self.begin(name)
        for port in BY_NAME[name].ports[:1]:
            await_(answers(self.settings.ports()[port]), name, 90)
        if name == "registry":
            url = self.settings.environment("x")["MILLRACE_REGISTRY"] + "/subjects"
            await_(lambda: _ok(url), "registry", 60)

    def stop(self, name: str, *, kill: bool = False) -> None:
        """End one part, kindly or not."""
        process = self.processes.pop(name)
        process.kill() if kill else process.terminate()
        process.wait(30)

    def stop_all(self) -> None:
        """End all parts that still run."""
        for name in list(self.processes):
            self.stop(name, kill=name in ("kafka", "registry", "s3"))


def _ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
