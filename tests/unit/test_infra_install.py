from __future__ import annotations

import importlib
import os
import re
import subprocess
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

from infra.local import install
from infra.local.settings import CHECKOUT, Trouble

Usage = namedtuple("Usage", "total used free")


def name(requirement: str) -> str:
    """Normalised name of a requirement such as `Faust_streaming[x]==1`."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def wanted() -> set[str]:
    lines = (CHECKOUT / "requirements.in").read_text().splitlines()
    return {name(line) for line in lines if line and not line.startswith("#")}


# What a worker on a GPU has beside: it is large, so nobody else installs it.
GPU_LOCK = CHECKOUT / "requirements-gpu.lock"


def locked(lock: Path = install.LOCK) -> dict[str, str]:
    found = re.findall(r"^([a-z0-9.-]+)==(\S+)", lock.read_text(), re.MULTILINE)
    return {name(package): version for package, version in found}


def test_the_lock_names_no_host() -> None:
    assert "://" not in install.LOCK.read_text() + GPU_LOCK.read_text()


def test_the_lock_holds_what_is_wanted() -> None:
    assert wanted() <= set(locked())


def test_what_the_extras_of_a_production_image_need_is_in_the_lock() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    gpu = optional.pop("gpu")
    extras = [*project["dependencies"], *(r for extra in optional.values() for r in extra)]
    assert {name(requirement) for requirement in extras} - {"millrace"} <= set(locked())
    assert {name(requirement) for requirement in gpu} <= set(locked(GPU_LOCK))


def test_the_lock_for_a_gpu_fits_beside_the_other_and_stays_out_of_it() -> None:
    both, gpu = locked(), locked(GPU_LOCK)
    assert {package: both[package] for package in both.keys() & gpu.keys()}.items() <= gpu.items()
    assert not {"torch", "transformers"} & both.keys()


def test_the_jars_fit_the_flink_of_the_lock() -> None:
    assert f"<flink.version>{locked()['apache-flink']}</flink.version>" in install.POM.read_text()


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(install, "RUNTIME", tmp_path)
    return tmp_path


def test_a_step_runs_once_for_each_state_of_the_lock(runtime: Path) -> None:
    made: list[int] = []
    for wanted in ("one", "one", "two"):
        install.step("part", wanted, runtime, lambda: made.append(1))
    assert len(made) == 2


def test_a_step_that_failed_runs_again(runtime: Path) -> None:
    def fail() -> None:
        raise Trouble("no")

    with pytest.raises(Trouble):
        install.step("part", "one", runtime, fail)
    made: list[int] = []
    install.step("part", "one", runtime, lambda: made.append(1))
    assert made == [1]


def test_a_part_that_was_deleted_is_made_again(runtime: Path) -> None:
    made: list[int] = []
    for _ in range(2):
        install.step("part", "one", runtime / "missing", lambda: made.append(1))
    assert len(made) == 2


def test_the_command_starts_from_any_folder(tmp_path: Path) -> None:
    command = install.VENV / "bin" / "millrace"
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "MILLRACE_URL": "http://127.0.0.1:9"}
    done = subprocess.run([command, "ls"], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "") and "MILLRACE_API_KEY" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_installed_project_has_the_same_command() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    module, _, function = project["scripts"]["millrace"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    script = (install.VENV / "bin" / "millrace").read_text()
    assert f"-m {module.removesuffix('.__main__')} " in script


def test_the_command_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "VENV", tmp_path)
    (tmp_path / "bin").mkdir()
    path = tmp_path / "bin" / "millrace"
    install.command()
    first = path.stat()
    install.command()
    assert path.stat().st_ino == first.st_ino and first.st_mode & 0o111 == 0o111
    path.write_text("#!/bin/sh\n# of another place\n")
    install.command()
    assert str(tmp_path) in path.read_text() and [p.name for p in path.parent.iterdir()] == ["millrace"]


def test_a_full_disk_is_told_before_anything_is_fetched(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.shutil, "disk_usage", lambda _: Usage(1, 1, 1 << 20))
    with pytest.raises(Trouble, match="1 MiB are free"):
        install.step("part", "one", runtime, lambda: None)


def test_a_missing_maven_is_told(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.shutil, "which", lambda _: None)
    with pytest.raises(Trouble, match="Maven is missing"):
        install.java()


@pytest.mark.parametrize("query", ["select 'it''s $x', $(shell echo hi), \"a\" \\ `b` # c %", "a b'$\\" * 16_000])
def test_make_hands_a_query_on_unchanged(query: str, tmp_path: Path) -> None:
    probe = tmp_path / "probe.mk"
    probe.write_text("probe:\n\t@printenv Q\n")
    command = ["make", "-s", "-f", str(CHECKOUT / "Makefile"), "-f", str(probe), "probe", f"Q={query}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == query + "\n"
