"""`make status` and `make logs`."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from infra.local import services
from infra.local.jobs import JOBS, Snapshots
from infra.local.rest import Rest, Unreachable
from infra.local.services import BY_NAME
from infra.local.settings import Settings, Trouble
from infra.local.supervisor import Supervisor


def uptime(seconds: int) -> str:
    """3725 as 1:02:05."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def status(settings: Settings) -> None:
    """Print every service with its state, pid and uptime, and the state of the Flink jobs."""
    table = Table("service", "state", "pid", "uptime", "port", title=str(settings.home), title_justify="left")
    supervisor = Supervisor(settings)
    running = {p.name: p for p in supervisor.processes()} if supervisor.alive() else {}
    ports = settings.ports()
    for service in services.ALL:
        name = service.name
        process = running.get(name)
        alive = process is not None and process.pid > 0
        if service not in services.of(settings) and not alive:
            continue
        state = process.state.lower() if process else "stopped"
        shown = (str(process.pid), uptime(process.uptime_s)) if process and alive else ("", "")
        table.add_row(name, state, *shown, str(ports[service.ports[0]]) if service.ports else "")
    for job in JOBS:
        table.add_row(f"job {job.name}", job_state(settings, job.name), "", "", "")
    console = Console()
    console.print(table)
    for line in connectors(settings):
        console.print(line, soft_wrap=True)
    for line in steered(settings) if "controller" in running else []:
        console.print(line, soft_wrap=True)


def connectors(settings: Settings) -> list[str]:
    """A line for each connector, as Kafka Connect tells it; none where that does not run."""
    try:
        with urllib.request.urlopen(settings.url("CONNECT") + "/connectors?expand=status", timeout=2) as answer:
            found = json.loads(answer.read())
    except (OSError, ValueError):
        return []
    lines = []
    for name, entry in sorted(found.items()):
        parts = [entry["status"]["connector"], *entry["status"]["tasks"]]
        states = [part["state"].lower() for part in parts]
        failed = [part.get("trace", "").splitlines()[:1] for part in parts if part["state"] == "FAILED"]
        why = f": {failed[0][0]}" if failed and failed[0] else ""
        running = sum(state == "running" for state in states[1:])
        lines.append(f"connector {name}: {states[0]}, {running} of {len(states) - 1} tasks run{why}")
    return lines


def steered(settings: Settings) -> list[str]:
    """A line for each open circuit and each canary that was taken back, as the controller wrote them."""
    try:
        report = json.loads((settings.home / "run" / "controller.json").read_text())
    except FileNotFoundError:
        return []
    now_s = time.time()
    circuits = [
        f"pool {pool}: its circuit is open since {uptime(max(0, int(now_s - at_ms / 1000)))}"
        for pool, at_ms in report["open"].items()
    ]
    return circuits + [
        f"model {model}: its canary was taken back: {why}" for model, why in report["rolled_back"].items()
    ]


def job_state(settings: Settings, name: str) -> str:
    """State of a Flink job, in lower case."""
    try:
        states = Rest(settings.url("FLINK"), 2).states()
    except Unreachable:
        return "stopped"
    return states.get(Snapshots(settings, name).job_id(), "absent").lower()


def log_files(settings: Settings, names: Sequence[str]) -> list[Path]:
    """Log files of these services, or of all; raises Trouble for a name that is none of ours."""
    for name in names:
        if name not in BY_NAME:
            raise Trouble(f"there is no service {name!r}: the services are {', '.join(BY_NAME)}")
    files = [settings.home / "logs" / f"{name}.log" for name in names or BY_NAME]
    found = [path for path in files if path.exists()]
    if not found:
        raise Trouble("there is no log yet: start the stack with `make up`")
    return found


def logs(settings: Settings, names: Sequence[str]) -> None:
    """Follow the logs until interrupted."""
    try:
        subprocess.run(["tail", "-n", "40", "-F", *map(str, log_files(settings, names))], check=False)
    except KeyboardInterrupt:
        return
