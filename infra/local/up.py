"""`make up`: starts what does not run, and returns when the stack is healthy."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import psutil
from rich.console import Console
from rich.table import Table

from infra.local import connect, launch, probes, services, setup
from infra.local.install import say
from infra.local.jobs import JOBS, Snapshots
from infra.local.plan import Abandoned, Step, carry_out
from infra.local.progress import Progress
from infra.local.rest import Rest, Unreachable
from infra.local.settings import HOST, Settings, Trouble
from infra.local.supervisor import Supervisor

READY_TIMEOUT_S: Final = 300
POLL_S: Final = 0.2
# A process that has lived this long got past its imports and its settings.
SETTLED_S: Final = 2
NEEDED_BYTES: Final = 1 << 30
CONNECT: Final = connect.NAME
OURS: Final = tuple(service.name for service in services.OURS if service.name != "jobs")


class Starter:
    """Starts one stack. `only` names the services wanted; the steps that need others are left out."""

    def __init__(self, settings: Settings, only: Sequence[str] = (), *, connect: bool = False) -> None:
        self._settings = settings
        self._wanted = set(only) or {service.name for service in services.of(settings)}
        if connect:
            self._wanted.add(CONNECT)
        self._supervisor = Supervisor(settings)

    def run(self) -> None:
        """Bring it up; raises Trouble with what to do."""
        self._begin()
        # A worker of Connect gives up where there is no broker, so it waits for one.
        parts = [name for name in self._parts() if name != CONNECT]
        self._supervisor.start(parts)
        steps = self._steps()
        with Progress([step.name for step in steps]) as progress:
            carry_out(steps, progress.done)

    def _begin(self) -> None:
        record = self._settings.home / "run" / "settings.json"
        mine = json.dumps(dict(self._settings.values), indent=1)
        if self._supervisor.alive():
            if record.exists() and record.read_text() != mine:
                raise Trouble("this stack runs with other settings (ports?): `make down` it first, or unset MILLRACE_*")
            return
        sweep(self._settings)
        check_disk(self._settings)
        check_ports(self._settings)
        self._supervisor.begin()
        launch.write(record, mine)

    def _parts(self) -> list[str]:
        return [service.name for service in services.PARTS if service.name in self._wanted]

    def _steps(self) -> list[Step]:
        settings = self._settings
        steps = [self._ready(name) for name in self._parts() if name != CONNECT]
        if CONNECT in self._wanted:
            steps.append(self._ready(CONNECT, ("kafka",) if "kafka" in self._wanted else ()))
        if "kafka" in self._wanted:
            steps.append(Step("topics", lambda _: setup.make_topics(settings), ("kafka",)))
        if "registry" in self._wanted:
            steps.append(Step("schemas", lambda _: setup.publish_schemas(settings), ("registry",)))
        if {"kafka", "registry"} <= self._wanted:
            needs = ("topics", "schemas", *((CONNECT,) if CONNECT in self._wanted else ()))
            steps.append(Step("configuration", lambda _: setup.apply_configuration(settings), needs))
        for name in (name for name in OURS if name in self._wanted):
            steps.append(self._ready(name, ("topics", "schemas")))
        if "jobs" in self._wanted:
            steps.append(Step("jobs", lambda _: self._supervisor.start(["jobs"]), ("topics", "schemas", "jobmanager")))
            steps.extend(Step(f"job {job.name}", self._job(job.name), ("jobs",)) for job in JOBS)
        return steps

    def _ready(self, name: str, needs: tuple[str, ...] = ()) -> Step:
        probe = probes.PROBES.get(name, self._settled(name))

        def run(failed: threading.Event) -> None:
            self._supervisor.start([name])
            self._await(name, lambda: probe(self._settings), failed)

        return Step(name, run, needs)

    def _settled(self, name: str) -> probes.Probe:
        def probe(settings: Settings) -> bool:
            path = launch.pid_file(settings, name)
            return path.exists() and time.time() - path.stat().st_mtime >= SETTLED_S

        return probe

    def _await(self, name: str, ready: Callable[[], bool], failed: threading.Event) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not ready():
            if failed.wait(POLL_S):
                raise Abandoned(name)
            if time.monotonic() > deadline:
                raise Trouble(f"{name} was not ready within {READY_TIMEOUT_S} s: {last_words(self._settings, name)}")

    def _job(self, name: str) -> Callable[[threading.Event], None]:
        rest, snapshots = Rest(self._settings.url("FLINK")), Snapshots(self._settings, name)

        def running() -> bool:
            try:
                return rest.running(snapshots.job_id())
            except Unreachable:
                return False

        return lambda failed: self._await("jobs", running, failed)


def sweep(settings: Settings) -> None:
    """Clear away what a process manager that was killed left: its processes and stale pid files."""
    left = launch.strays(settings)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    stale = list((settings.home / "run").glob("*.pid"))
    for path in stale:
        path.unlink()
    if left or stale:
        say(
            f"the last stack here was not stopped by `make down`: cleared {len(left)} processes, {len(stale)} pid files"
        )


def check_disk(settings: Settings) -> None:
    """Raises Trouble if the disk of MILLRACE_HOME is full or not writable."""
    try:
        settings.home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Trouble(
            f"{settings.home} cannot be made: {error.strerror}; set MILLRACE_HOME to a folder you may write"
        ) from None
    free = shutil.disk_usage(settings.home).free
    if free < NEEDED_BYTES:
        raise Trouble(
            f"the disk of {settings.home} is full ({free >> 20} MiB free, 1024 needed): make room, or set MILLRACE_HOME"
        )


def check_ports(settings: Settings) -> None:
    """Raises Trouble naming a port that is taken, and by whom if that can be seen."""
    for name, port in settings.ports().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                setting = f"MILLRACE_{name.split()[0]}_PORT"
                raise Trouble(f"port {port} ({name}) is taken{owner(port)}: stop that, or set {setting}") from None


def owner(port: int) -> str:
    """ " by <process>" of the listener on a port, or nothing where that is not visible."""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def last_words(settings: Settings, service: str) -> str:
    """The last line of a service's log and where the rest is."""
    path = settings.home / "logs" / f"{service}.log"
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return f"{lines[-1][:300] if lines else 'it said nothing'} (see {path})"


def addresses(settings: Settings) -> Table:
    """Where the parts of a running stack are."""
    env = settings.environment("up")
    table = Table("what", "address", title=f"Millrace is up ({settings.home})", title_justify="left")
    table.add_row("OpenAI API", f"http://{HOST}:{settings.port('HTTP')}/v1")
    table.add_row("metrics", f"http://{HOST}:{settings.port('HTTP')}/metrics")
    table.add_row("Kafka", env["MILLRACE_KAFKA"])
    table.add_row("Kafka for producers", f"{HOST}:{settings.ports()['KAFKA users']} (SCRAM-SHA-512)")
    table.add_row("schema registry", env["MILLRACE_REGISTRY"])
    table.add_row("Flink", env["MILLRACE_FLINK"])
    if launch.pid_file(settings, CONNECT).exists():
        table.add_row("Kafka Connect", env["MILLRACE_CONNECT"])
    table.add_row("S3", f"{env['MILLRACE_S3']} (bucket {env['MILLRACE_BUCKET']})")
    table.add_row("Redis", env["MILLRACE_REDIS"])
    return table


def up(settings: Settings, only: Sequence[str] = (), *, connect: bool = False) -> None:
    """Start the stack, with Kafka Connect if asked for, and print its addresses; raises Trouble."""
    began = time.monotonic()
    Starter(settings, only, connect=connect).run()
    console = Console()
    console.print(addresses(settings))
    console.print(f"healthy after {time.monotonic() - began:.0f} s; `make status`, `make logs`, `make down`")
