"""The keeper of the Flink jobs: whatever the JobManager forgot is submitted again from its newest snapshot.

A lone JobManager has no high availability (that takes ZooKeeper or Kubernetes), so after its death this does what
an operator of a cluster has done for it. Runs as a service: `python -m infra.local.jobs`.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from infra.local import flink
from infra.local.rest import ALIVE, Rest, Unreachable
from infra.local.settings import Settings

POLL_S: Final = 1.0
SUBMIT_TIMEOUT_S: Final = 180
# A job that fails at once (not even its restart strategy could start) is tried again at this pace.
PAUSE_S: Final = 5.0
REASON_CHARS: Final = 6_000
log: Final = logging.getLogger("jobs")


@dataclass(frozen=True, slots=True)
class Job:
    """A Flink job of ours and the script that builds it, relative to the checkout."""

    name: str
    script: str


JOBS: Final = (Job("admission", "streams/admission_job.py"), Job("lake", "streams/lake_job.py"))


class Snapshots:
    """Checkpoints and savepoints of one job, in folders of its own; and the id it was last submitted under."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.checkpoints = flink.folder(settings) / "checkpoints" / name
        self.savepoints = flink.folder(settings) / "savepoints" / name
        self._id = flink.folder(settings) / f"{name}.id"

    def newest(self) -> Path | None:
        """The newest snapshot that is whole; a folder without `_metadata` was never finished."""
        found = [*self.checkpoints.glob("*/chk-*/_metadata"), *self.savepoints.glob("*/_metadata")]
        return max(found, key=lambda path: path.stat().st_mtime_ns).parent if found else None

    def job_id(self) -> str:
        """The id of the last submission, or nothing."""
        return self._id.read_text() if self._id.exists() else ""

    def name(self, job_id: str) -> None:
        """Keep the id of a submission. Written before it, so that a keeper that dies in between knows it."""
        for folder in (self.checkpoints, self.savepoints):
            folder.mkdir(parents=True, exist_ok=True)
        draft = self._id.with_suffix(".draft")
        draft.write_text(job_id)
        draft.replace(self._id)

    def prune(self, job_id: str) -> None:
        """Delete what earlier submissions left, once this one has a whole checkpoint of its own.

        Its first checkpoint after a restore is a full one (NO_CLAIM), so nothing refers to the older files.
        """
        if not any(self.checkpoints.glob(f"{job_id}/chk-*/_metadata")):
            return
        for old in [p for p in self.checkpoints.iterdir() if p.name != job_id] + list(self.savepoints.iterdir()):
            shutil.rmtree(old, ignore_errors=True)


def reason(output: str) -> str:
    """What the client said, without the stack frames of Java, which drown the traceback of the script."""
    return "\n".join(line for line in output.splitlines() if not line.startswith("\t"))[:REASON_CHARS]


class Keeper:
    """Looks after one job, which is submitted only when the job of `first`, if there is one, has its slots."""

    def __init__(self, settings: Settings, job: Job, stop: threading.Event, first: Snapshots | None = None) -> None:
        self._settings = settings
        self._first = first
        self._job = job
        self._stop = stop
        self._rest = Rest(settings.url("FLINK"))
        self._snapshots = Snapshots(settings, job.name)
        self._pruned = ""

    def run(self) -> None:
        """Until stopped: see that the job is there. Never raises; every fault is logged and tried again."""
        while not self._stop.wait(POLL_S):
            try:
                self.look()
            except Unreachable as error:
                log.info("%s: JobManager is away (%s)", self._job.name, error)
            except OSError as error:
                log.error("%s: %s", self._job.name, error)

    def look(self) -> None:
        """Submit the job if it is not alive, else clean up behind it."""
        job_id = self._snapshots.job_id()
        state = self._rest.states().get(job_id, "UNKNOWN")
        if state not in ALIVE:
            if state != "UNKNOWN":
                log.error("%s: job is %s: %s", self._job.name, state, self._rest.exception(job_id))
                self._stop.wait(PAUSE_S)
            if self._first is None or self._rest.running(self._first.job_id()):
                self._submit()
        elif state == "RUNNING" and self._pruned != job_id and self._rest.completed_checkpoints(job_id):
            self._snapshots.prune(job_id)
            self._pruned = job_id

    def _submit(self) -> None:
        job_id, snapshot, began = uuid.uuid4().hex, self._snapshots.newest(), time.monotonic()
        log.info("%s: submitting as %s from %s", self._job.name, job_id, snapshot or "nothing")
        self._snapshots.name(job_id)
        try:
            done = subprocess.run(
                self.command(job_id, snapshot),
                cwd=self._settings.checkout,
                env={**os.environ, **flink.environment(self._settings)},
                capture_output=True,
                text=True,
                timeout=SUBMIT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            log.error("%s: not submitted within %d s", self._job.name, SUBMIT_TIMEOUT_S)
            return
        if done.returncode != 0:
            log.error("%s: not submitted:\n%s", self._job.name, reason(done.stdout + done.stderr))
            self._stop.wait(PAUSE_S)
            return
        log.info("%s: submitted in %.1f s", self._job.name, time.monotonic() - began)

    def command(self, job_id: str, snapshot: Path | None) -> list[str]:
        """`flink run` of this job under this id; its checkpoints go to a folder of its own."""
        python = str(self._settings.venv / "bin" / "python")
        options = {
            "$internal.pipeline.job-id": job_id,
            "pipeline.name": self._job.name,
            "execution.checkpointing.dir": f"file://{self._snapshots.checkpoints}",
        }
        return flink.client(
            self._settings,
            "run",
            "-d",
            *(["-s", f"file://{snapshot}", "--claimMode", "NO_CLAIM"] if snapshot else []),
            *(f"-D{name}={value}" for name, value in options.items()),
            "-pyexec",
            python,
            "-pyclientexec",
            python,
            "-py",
            str(self._settings.checkout / self._job.script),
        )


def _first(settings: Settings, job: Job) -> Snapshots | None:
    """The job that must have its slots before this one: of several TaskManagers each shall have a part of admission."""
    return Snapshots(settings, JOBS[0].name) if settings.taskmanagers > 1 and job != JOBS[0] else None


def main() -> None:
    """Keep all jobs until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-5s %(message)s")
    settings = Settings.read(os.environ)
    stop = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        del signum, frame
        stop.set()

    signal.signal(signal.SIGTERM, end)
    threads = [
        threading.Thread(target=Keeper(settings, job, stop, _first(settings, job)).run, name=job.name) for job in JOBS
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
