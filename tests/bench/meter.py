"""CPU time: of each process of the stack, of the benchmark itself, and of all the rest of the machine."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.bench.driver import Stack, services
from tests.bench.report import Unmeasured


@dataclass(frozen=True, slots=True)
class Sample:
    """CPU seconds used so far, by service of the stack, by the benchmark and its children, and by the machine."""

    at: float
    pids: dict[str, int]
    services: dict[str, float]
    own: float
    machine: float


@dataclass(frozen=True, slots=True)
class Spent:
    """CPU seconds between two samples. `others` is what neither the stack nor the benchmark used."""

    seconds: float
    services: dict[str, float]
    own: float
    others: float

    @property
    def total(self) -> float:
        """CPU seconds of the whole stack."""
        return sum(self.services.values())

    @property
    def other_cores(self) -> float:
        """Cores that other people's processes used, on average."""
        return max(0.0, self.others / self.seconds)


def sample(stack: Stack) -> Sample:
    """Read the counters. Raises Unmeasured if a service is not there."""
    processes = services(stack)
    named = {process.pid for process in processes.values()}
    used = {name: _tree(process, named) for name, process in processes.items()}
    times = psutil.cpu_times()
    busy = sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    pids = {name: process.pid for name, process in processes.items()}
    return Sample(time.monotonic(), pids, used, _own(named), busy)


def _own(named: set[int]) -> float:
    """CPU seconds of this process, of its children, and of those that have ended."""
    ended = os.times()
    return _tree(psutil.Process(os.getpid()), named) + ended.children_user + ended.children_system


def _tree(process: psutil.Process, named: set[int]) -> float:
    """CPU seconds of a process and its descendants, but for those that are services themselves."""
    try:
        times = process.cpu_times()
        children = [child for child in process.children() if child.pid not in named]
    except psutil.Error:
        return 0.0
    return float(times.user + times.system) + sum(_tree(child, named) for child in children)


def spent(before: Sample, after: Sample) -> Spent:
    """What was used between two samples. Raises Unmeasured if a service was restarted meanwhile."""
    restarted = sorted(name for name, pid in before.pids.items() if after.pids.get(name) != pid)
    if restarted:
        raise Unmeasured(f"restarted during the measurement: {', '.join(restarted)}")
    used = {name: max(0.0, after.services[name] - seconds) for name, seconds in before.services.items()}
    own = after.own - before.own
    others = after.machine - before.machine - sum(used.values()) - own
    return Spent(after.at - before.at, used, own, others)


def thread_s(process: psutil.Process, name: str) -> float:
    """CPU seconds of the threads of a process whose name begins with `name`; 0 where the system does not tell."""
    seconds = 0.0
    for thread in process.threads():
        comm = Path(f"/proc/{process.pid}/task/{thread.id}/comm")
        with suppress(OSError):
            if comm.read_text().startswith(name):
                seconds += thread.user_time + thread.system_time
    return seconds
