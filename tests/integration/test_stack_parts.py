"""The process manager with one real part, the cheapest: valkey."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from parts import await_, free_ports

from infra.local import launch
from infra.local.settings import CHECKOUT, HOST, NAMES, Settings


class Stack:
    """A stack of its own, driven by the command line."""

    def __init__(self, home: Path) -> None:
        ports = dict(zip(NAMES, free_ports(len(NAMES)), strict=True))
        self.env = {f"MILLRACE_{name}_PORT": str(port) for name, port in ports.items()} | {"MILLRACE_HOME": str(home)}
        self.settings = Settings.read(self.env)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m infra.local ...`."""
        command = [sys.executable, "-m", "infra.local", *arguments]
        env = {**os.environ, **self.env}
        return subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, check=False, timeout=120)

    def pid(self) -> int:
        """The pid of valkey, as its file says."""
        return int(launch.pid_file(self.settings, "redis").read_text())

    def replaced(self, pid: int) -> bool:
        """Whether valkey runs under another pid, and works."""
        return self.pid() != pid and psutil.pid_exists(self.pid()) and self.answers()

    def answers(self) -> bool:
        """Whether valkey accepts connections."""
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.settings.port("REDIS"))) == 0


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    # A long home: the socket of the process manager then lies elsewhere.
    home = Stack(tmp_path / ("deep" * 20))
    yield home
    home.run("down")


def test_a_killed_service_comes_back_under_a_new_pid(stack: Stack) -> None:
    assert stack.run("up", "--only", "redis").returncode == 0
    for _ in range(2):
        pid = stack.pid()
        assert "valkey" in psutil.Process(pid).name()
        os.kill(pid, signal.SIGKILL)
        await_(lambda pid=pid: stack.replaced(pid), "a new valkey", 20)  # type: ignore[misc]


def test_up_twice_is_harmless_and_down_leaves_nothing(stack: Stack) -> None:
    assert stack.run("up", "--only", "redis").returncode == 0
    pid = stack.pid()
    assert stack.run("up", "--only", "redis").returncode == 0
    assert stack.pid() == pid
    assert "running" in stack.run("status").stdout
    assert stack.run("down").returncode == 0
    assert not stack.answers()
    assert launch.strays(stack.settings) == []
    assert list((stack.settings.home / "run").glob("*.pid")) == []
    assert stack.run("down").returncode == 0


def test_what_a_killed_process_manager_left_is_cleared(stack: Stack) -> None:
    assert stack.run("up", "--only", "redis").returncode == 0
    orphan = stack.pid()
    manager = psutil.Process(int((stack.settings.home / "run" / "supervisord.pid").read_text()))
    manager.kill()
    await_(lambda: not psutil.pid_exists(manager.pid), "the end of the process manager")
    done = stack.run("up", "--only", "redis")
    assert done.returncode == 0
    assert "cleared" in done.stderr
    assert stack.pid() != orphan


def test_a_taken_port_is_one_line_that_names_it(stack: Stack) -> None:
    port = stack.settings.port("S3")
    with socket.create_server((HOST, port)):
        done = stack.run("up", "--only", "redis")
    assert done.returncode == 1
    assert done.stderr.startswith(f"millrace: port {port} (S3) is taken by ")
    assert "MILLRACE_S3_PORT" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_other_ports_for_a_running_stack_are_refused(stack: Stack) -> None:
    assert stack.run("up", "--only", "redis").returncode == 0
    stack.env["MILLRACE_S3_PORT"] = str(free_ports(1)[0])
    done = stack.run("up", "--only", "redis")
    assert done.returncode == 1
    assert "other settings" in done.stderr
