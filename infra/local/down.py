"""`make down`: jobs with a savepoint, then every process; nothing is left but the state."""

from __future__ import annotations

import shutil
import threading
import time
from typing import Final

import psutil

from infra.local import flink, launch, services
from infra.local.install import say
from infra.local.jobs import JOBS, Snapshots
from infra.local.rest import ALIVE, Rest, Unreachable
from infra.local.settings import Settings
from infra.local.supervisor import Supervisor, socket_path

SAVEPOINT_TIMEOUT_S: Final = 30
POLL_S: Final = 0.2
OURS: Final = [service.name for service in services.OURS if service.name != "jobs"]
FLINK: Final = ["taskmanager", services.SECOND, "jobmanager"]


def save(settings: Settings, name: str) -> None:
    """Stop a job with a savepoint; where that does not come about in time, cancel it: its checkpoints stay."""
    rest, snapshots = Rest(settings.url("FLINK")), Snapshots(settings, name)
    job_id = snapshots.job_id()
    try:
        if rest.states().get(job_id) not in ALIVE:
            return
    except Unreachable:
        return
    try:
        request = rest.stop(job_id, f"file://{snapshots.savepoints}")
        deadline = time.monotonic() + SAVEPOINT_TIMEOUT_S
        while time.monotonic() < deadline:
            if location := rest.stopped(job_id, request):
                say(f"job {name} stopped with a savepoint: {location.rpartition('/')[2]}")
                return
            time.sleep(POLL_S)
        why = f"none within {SAVEPOINT_TIMEOUT_S} s"
    except Unreachable as error:
        why = str(error)
    newest = snapshots.newest()
    say(f"job {name}: no savepoint ({why}); it will go on from {newest.name if newest else 'its beginning'}")
    try:
        rest.cancel(job_id)
    except Unreachable:
        return


def down(settings: Settings) -> None:
    """Stop everything; harmless if nothing runs."""
    supervisor = Supervisor(settings)
    if supervisor.alive():
        supervisor.stop(["jobs"])
        tasks = [threading.Thread(target=save, args=(settings, job.name)) for job in JOBS]
        # Ours end their work while the savepoints are written; the broker stays until both are done.
        tasks.append(threading.Thread(target=supervisor.stop, args=(OURS,)))
        for task in tasks:
            task.start()
        for task in tasks:
            task.join()
        supervisor.stop([*FLINK, "connect", "registry", "s3", "redis"])
        supervisor.stop(["kafka"])
        supervisor.end()
    left = launch.strays(settings)
    for process in left:
        process.kill()
    psutil.wait_procs(left, timeout=10)
    for path in (settings.home / "run").glob("*.pid"):
        path.unlink()
    socket_path(settings).unlink(missing_ok=True)
    # A killed JVM leaves its unpacked libraries and uploads here.
    shutil.rmtree(flink.folder(settings) / "tmp", ignore_errors=True)
    say(f"stopped; the state stays in {settings.home}")
