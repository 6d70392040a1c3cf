"""The lake's commands of `millrace`, and bars in a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from typer.testing import CliRunner

from ingest.cli import lake, usage
from ingest.cli.__main__ import app


def shown(found, **options):
    out = io.StringIO()
    Console(file=out, width=120).print(usage.table(found, **options))
    return out.getvalue().splitlines()


def sums(tokens):
    return {"requests": 1, "input_tokens": tokens, "output_tokens": 0, "cost_micros": 1}


def test_bars_are_as_long_as_their_part_of_the_most():
    rows = [{"tenant": name, **sums(tokens)} for name, tokens in (("acme", 300), ("globex", 100), ("idle", 0))]
    lines = shown({"data": rows, "total": sums(400)}, chart=True)
    assert [line.count(usage.BLOCK) for line in lines[1:]] == [30, 10, 0, 0]
    assert not any(usage.BLOCK in line for line in shown({"data": rows, "total": sums(400)}))


def test_nobody_used_anything():
    assert len(shown({"data": [{"tenant": "acme", **sums(0)}], "total": sums(0)}, chart=True)) == 2


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["reconcile"], ["streams.reconcile"]),
        (["reconcile", "--day", "2026-11-02"], ["streams.reconcile", "--day", "2026-11-02"]),
        (["rebuild", "usage", "2026-11-02", "9"], ["streams.replay", "usage", "2026-11-02", "9"]),
        (["erase", "--tenant", "acme", "--user", "u"], ["streams.erase", "--tenant", "acme", "--user", "u"]),
        (["report", "--tenant", "acme"], ["streams.report", "--days", "7", "--tenant", "acme"]),
    ],
)
def test_each_command_is_the_lakes_own_program_and_its_exit_status(monkeypatch, line, expected):
    ran = []

    def run(command, check):
        ran.append(command[2:])
        return type("Done", (), {"returncode": 2})

    names = ("SERVICE", "HOME", "KAFKA", "REGISTRY", "S3", "S3_ACCESS_KEY", "S3_SECRET_KEY", "BUCKET", "REDIS")
    for name in names:
        monkeypatch.setenv(f"MILLRACE_{name}", "x")
    monkeypatch.setattr(lake.subprocess, "run", run)
    assert CliRunner().invoke(app, line).exit_code == 2
    assert ran == [expected]
