"""What the README shows is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infra.local.settings import Settings
from ingest import configuration
from ingest.documents import load
from streams import lake

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_configuration_is_one():
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    found = configuration.combine([load("README.md", text)])
    assert found.models["chat"].split and found.models["m"].price.output == 200_000
    assert {limit.on for limit in found.tenants["acme"].limits} == {
        "requests", "total_tokens", "concurrency", "enqueued_tokens", "open_batches",
    }  # fmt: skip


@pytest.mark.parametrize("table", lake.TABLES, ids=lambda t: t.name)
def test_its_columns_exist(table):
    (listed,) = re.findall(rf"^\| `{table.name}` \|[^|]*\| `([^`]*)` \|$", README, re.MULTILINE)
    assert set(listed.split(", ")) <= {c.name for c in lake.columns(table.schema)}


def test_its_ports_are_those_of_the_settings():
    names, ports = re.findall(r"^\| (HTTP .*) \|\n\|[-|]+\n\| (.*) \|$", README, re.MULTILINE)[0]
    settings = Settings.read({})
    assert [settings.port(name) for name in names.split(" | ")] == [int(port) for port in ports.split(" | ")]


def test_its_files_and_commands_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make (?:-s )?([a-z]+)", README)) <= targets
    for path in re.findall(r"`((?:examples|schemas|streams|infra|config)/[\w./*-]*)`", README):
        assert list(ROOT.glob(path)), path
