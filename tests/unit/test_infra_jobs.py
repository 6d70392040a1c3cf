from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from infra.local import jobs
from infra.local.jobs import Job, Keeper, Snapshots
from infra.local.settings import CHECKOUT, Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"MILLRACE_HOME": str(tmp_path)})


def snapshot(folder: Path, at: int, whole: bool = True) -> Path:
    """A checkpoint or savepoint taken `at` (seconds)."""
    folder.mkdir(parents=True)
    if whole:
        (folder / "_metadata").touch()
        os.utime(folder / "_metadata", (at, at))
    return folder


def test_the_newest_whole_snapshot_is_chosen(settings: Settings) -> None:
    found = Snapshots(settings, "admission")
    assert found.newest() is None
    snapshot(found.checkpoints / "a" / "chk-9", at=10)
    newest = snapshot(found.checkpoints / "b" / "chk-3", at=20)
    snapshot(found.checkpoints / "b" / "chk-4", at=30, whole=False)
    assert found.newest() == newest
    savepoint = snapshot(found.savepoints / "savepoint-1", at=25)
    assert found.newest() == savepoint


def test_a_snapshot_of_another_job_is_never_chosen(settings: Settings) -> None:
    snapshot(Snapshots(settings, "lake").checkpoints / "a" / "chk-1", at=10)
    assert Snapshots(settings, "admission").newest() is None


def test_old_snapshots_go_only_when_the_new_job_has_its_own(settings: Settings) -> None:
    found = Snapshots(settings, "admission")
    found.name("new")
    old = snapshot(found.checkpoints / "old" / "chk-5", at=10)
    savepoint = snapshot(found.savepoints / "savepoint-1", at=20)
    unfinished = snapshot(found.checkpoints / "new" / "chk-6", at=30, whole=False)
    found.prune("new")
    assert old.exists() and savepoint.exists()
    (unfinished / "_metadata").touch()
    found.prune("new")
    assert not old.exists() and not savepoint.exists() and unfinished.exists()


def test_the_id_is_remembered(settings: Settings) -> None:
    assert Snapshots(settings, "lake").job_id() == ""
    Snapshots(settings, "lake").name("abc")
    assert Snapshots(settings, "lake").job_id() == "abc"


class FakeRest:
    """A JobManager that knows these states."""

    def __init__(self, states: dict[str, str]) -> None:
        self._states = states

    def states(self) -> dict[str, str]:
        return self._states

    def running(self, job_id: str) -> bool:
        return self._states.get(job_id) == "RUNNING"

    def exception(self, job_id: str) -> str:
        return f"{job_id} broke"

    def completed_checkpoints(self, job_id: str) -> int:
        return 0


def submitted(settings: Settings, states: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids under which the keeper submits its job, when the JobManager knows `states` and the last id was "last"."""
    found: list[str] = []
    keeper = Keeper(settings, Job("lake", "streams/lake_job.py"), threading.Event())
    Snapshots(settings, "lake").name("last")
    monkeypatch.setattr(jobs, "PAUSE_S", 0)
    monkeypatch.setattr(keeper, "_rest", FakeRest(states))
    monkeypatch.setattr(keeper, "_submit", lambda: found.append("submitted"))
    keeper.look()
    return found


@pytest.mark.parametrize("state", ["RUNNING", "RESTARTING", "INITIALIZING", "CANCELLING"])
def test_a_living_job_is_left_alone(state: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert submitted(settings, {"last": state}, monkeypatch) == []


@pytest.mark.parametrize("states", [{}, {"last": "FAILED"}, {"last": "CANCELED"}, {"another": "RUNNING"}])
def test_a_lost_job_is_submitted(states: dict[str, str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert submitted(settings, states, monkeypatch) == ["submitted"]


@pytest.mark.parametrize(("state", "submissions"), [("CREATED", 0), ("RUNNING", 1)])
def test_a_job_waits_until_the_one_before_it_has_its_slots(
    state: str, submissions: int, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = Settings.read({"MILLRACE_HOME": str(settings.home), "MILLRACE_TASKMANAGERS": "2"})
    admission, lake = jobs.JOBS
    assert jobs._first(two, admission) is None and jobs._first(settings, lake) is None
    Snapshots(settings, "admission").name("before")
    found: list[str] = []
    keeper = Keeper(two, lake, threading.Event(), jobs._first(two, lake))
    monkeypatch.setattr(keeper, "_rest", FakeRest({"before": state}))
    monkeypatch.setattr(keeper, "_submit", lambda: found.append("submitted"))
    keeper.look()
    assert len(found) == submissions


def test_the_scripts_of_the_jobs_are_there() -> None:
    assert all((CHECKOUT / job.script).exists() for job in jobs.JOBS)
