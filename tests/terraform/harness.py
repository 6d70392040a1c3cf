"""Runs the real `terraform` on a copy of infra/terraform, with the doubles of its providers and without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final

CHECKOUT: Final = Path(__file__).parents[2]
PROVIDERS: Final = Path(__file__).parent / "providers"
# Where this is `registry`, Terraform fetches the real providers, and everything else stays as it is.
REAL: Final = os.environ.get("MILLRACE_TERRAFORM_PROVIDERS") == "registry"
# Ten plans, each of which starts the doubles anew: a minute by themselves, far more on a busy machine.
TIMEOUT_S: Final = 540
PLUGIN: Final = """\
#!{python}
import sys
sys.path.insert(0, {checkout!r})
from pathlib import Path
from tests.terraform.plugin import serve
serve(Path({schema!r}))
"""


class Terraform:
    """Terraform in one configuration of infra/terraform (`root` below it), under a folder of its own."""

    def __init__(self, folder: Path, root: str = "") -> None:
        self._folder = folder
        for part in ("infra/terraform", "schemas/avro"):
            shutil.copytree(CHECKOUT / part, folder / part, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
        self.root = folder / "infra" / "terraform" / root
        self._config = folder / "terraformrc"
        self._config.write_text("disable_checkpoint = true\n" + ("" if REAL else self._mirror()))
        done = self.run("init", "-backend=false", "-input=false", "-no-color")
        assert done.returncode == 0, done.stdout + done.stderr

    def _mirror(self) -> str:
        """A folder in which Terraform finds a double for each provider."""
        platform = json.loads(
            subprocess.run(["terraform", "version", "-json"], capture_output=True, check=False).stdout
        )
        mirror = self._folder / "mirror"
        for schema in PROVIDERS.glob("*.json"):
            version = json.loads(schema.read_text())["version"]
            place = mirror / "registry.terraform.io" / "hashicorp" / schema.stem / version / platform["platform"]
            place.mkdir(parents=True)
            plugin = place / f"terraform-provider-{schema.stem}_v{version}"
            plugin.write_text(PLUGIN.format(python=sys.executable, checkout=str(CHECKOUT), schema=str(schema)))
            plugin.chmod(0o755)
        return f'provider_installation {{\n  filesystem_mirror {{\n    path = "{mirror}"\n  }}\n}}\n'

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """One call of terraform; bounded in time."""
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "AWS_"))}
        env |= {"TF_CLI_CONFIG_FILE": str(self._config), "TF_IN_AUTOMATION": "1", "CHECKPOINT_DISABLE": "1"}
        command = ["terraform", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=env, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    @cached_property
    def tests(self) -> list[dict[str, Any]]:
        """What `terraform test` reports, line by line, with the plan of each run."""
        done = self.run("test", "-json", "-verbose", "-no-color")
        assert done.stdout, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def results(self) -> dict[str, tuple[str, str]]:
        """(status, diagnostics) of each run of each test file, by `file: run`."""
        said: dict[str, list[str]] = {}
        for line in self.tests:
            if line["type"] == "diagnostic":
                found = line["diagnostic"]
                key = f"{line.get('@testfile', '')}: {line.get('@testrun', '')}"
                said.setdefault(key, []).append(f"{found['summary']}: {found.get('detail', '')}")
        runs = [
            line["test_run"]
            for line in self.tests
            if line["type"] == "test_run" and line["test_run"].get("progress") in (None, "complete")
        ]
        return {
            f"{run['path']}: {run['run']}": (run["status"], "\n".join(said.get(f"{run['path']}: {run['run']}", [])))
            for run in runs
        }

    def plan(self, run: str) -> Plan:
        """What a run planned."""
        (line,) = [x for x in self.tests if x["type"] == "test_plan" and x.get("@testrun") == run]
        return Plan(line["test_plan"])


class Plan:
    """Resources and outputs of a plan."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Planned values of all resources of a type, by address without the modules."""
        changes = [c for c in self._document["resource_changes"] if c["type"] == kind and c["mode"] == "managed"]
        return {c["address"].partition(kind + ".")[2]: c["change"]["after"] for c in changes}

    def addresses(self) -> Iterator[str]:
        """Every resource."""
        yield from (c["address"] for c in self._document["resource_changes"])

    def output(self, name: str) -> Any:
        """An output's value."""
        return self._document["output_changes"][name]["after"]
