"""Terraform under test, where it is on the PATH; elsewhere one line says what is left out."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Final

import pytest

from tests.terraform.harness import REAL, Terraform

# The first version whose mocks give values already to a plan.
LEAST: Final = (1, 11)


def _version() -> str:
    """Of the terraform on the PATH; empty without one."""
    if shutil.which("terraform") is None:
        return ""
    done = subprocess.run(["terraform", "version", "-json"], capture_output=True, check=False)
    return str(json.loads(done.stdout)["terraform_version"])


VERSION: Final = _version()
MISSING: Final = not VERSION or tuple(int(n) for n in VERSION.split(".")[:2]) < LEAST
collect_ignore_glob = ["test_*.py"] if MISSING else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line: what was checked with what."""
    if MISSING:
        found = f"terraform {VERSION} is too old" if VERSION else "no terraform on the PATH"
        line = f"{found} (1.11 or newer is needed): infra/terraform was not validated, planned or tested"
    else:
        providers = "the real providers" if REAL else "doubles of its providers (names and types, no values)"
        line = f"infra/terraform was validated and its tests planned by terraform {VERSION} with {providers}"
    terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """infra/terraform."""
    return Terraform(tmp_path_factory.mktemp("cloud"))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """infra/terraform/cluster."""
    return Terraform(tmp_path_factory.mktemp("cluster"), "cluster")
