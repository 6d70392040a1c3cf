"""Flink's REST interface: https://nightlies.apache.org/flink/flink-docs-release-2.3/docs/ops/rest_api/"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any, Final

ALIVE: Final = frozenset({"INITIALIZING", "CREATED", "RUNNING", "FAILING", "CANCELLING", "RESTARTING", "RECONCILING"})


class Unreachable(Exception):
    """The JobManager did not answer, or answered with an error."""


class Rest:
    """A JobManager at `url`. Every call waits `timeout_s` at most and raises Unreachable."""

    def __init__(self, url: str, timeout_s: float = 5) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else None
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self._url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=self._timeout_s) as response:
                answer: dict[str, Any] = json.loads(response.read() or b"{}")
                return answer
        except (OSError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {error}") from error

    def states(self) -> dict[str, str]:
        """State by job id, of all jobs this JobManager remembers."""
        return {job["jid"]: job["state"] for job in self._call("GET", "/jobs/overview")["jobs"]}

    def running(self, job_id: str) -> bool:
        """Whether all tasks of the job run; a job is RUNNING as soon as it has been planned."""
        for job in self._call("GET", "/jobs/overview")["jobs"]:
            if job["jid"] == job_id:
                tasks = job["tasks"]
                return bool(job["state"] == "RUNNING" and tasks["total"] and tasks["running"] == tasks["total"])
        return False

    def slots(self) -> int:
        """Slots of the registered TaskManagers, free or not."""
        return int(self._call("GET", "/overview")["slots-total"])

    def completed_checkpoints(self, job_id: str) -> int:
        """Checkpoints the job has completed since it was submitted."""
        return int(self._call("GET", f"/jobs/{job_id}/checkpoints")["counts"]["completed"])

    def last_checkpoint(self, name: str) -> dict[str, Any]:
        """Flink's account of the newest checkpoint of the running job called `name`; empty if there is none."""
        for job in self._call("GET", "/jobs/overview")["jobs"]:
            if job["name"] == name and job["state"] == "RUNNING":
                return self._call("GET", f"/jobs/{job['jid']}/checkpoints")["latest"]["completed"] or {}
        return {}

    def exception(self, job_id: str) -> str:
        """First line of the exception that last failed the job, or nothing."""
        entries = self._call("GET", f"/jobs/{job_id}/exceptions?maxExceptions=1")["exceptionHistory"]["entries"]
        return str(entries[0]["stacktrace"]).splitlines()[0] if entries else ""

    def stop(self, job_id: str, target: str) -> str:
        """Ask for a savepoint in the folder `target` and the end of the job; the id to ask `stopped` with."""
        body = {"targetDirectory": target, "drain": False}
        return str(self._call("POST", f"/jobs/{job_id}/stop", body)["request-id"])

    def stopped(self, job_id: str, request: str) -> str | None:
        """Where the savepoint lies; None while it is being written. Unreachable says why it failed."""
        answer = self._call("GET", f"/jobs/{job_id}/savepoints/{request}")
        if answer["status"]["id"] != "COMPLETED":
            return None
        operation = answer["operation"]
        if "location" not in operation:
            raise Unreachable(str(operation.get("failure-cause", {}).get("class", "no savepoint")))
        return str(operation["location"])

    def cancel(self, job_id: str) -> None:
        """Cancel the job; its retained checkpoints stay."""
        self._call("PATCH", f"/jobs/{job_id}?mode=cancel")
