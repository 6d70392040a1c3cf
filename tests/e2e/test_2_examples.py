"""The clients that newcomers copy, as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.e2e.commanding import lines
from tests.e2e.stack import ROOT, Stack


def run(stack: Stack, folder: Path, script: str, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """An example, started from a folder that is none of ours."""
    env = {**{k: v for k, v in stack.env.items() if k != "PYTHONPATH"}, **env}
    line = [sys.executable, str(ROOT / "examples" / script), *words]
    done = subprocess.run(line, cwd=folder, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done


def test_a_batch(stack: Stack, tmp_path: Path):
    path = lines(tmp_path / "in.jsonl", ["one", "two", "three"])
    done = run(stack, tmp_path, "batch.py", str(path), MILLRACE_API_KEY="mr-cli")
    assert [json.loads(row)["custom_id"] for row in done.stdout.splitlines()] == ["c0", "c1", "c2"]
    assert "completed: 3 of 3 lines" in done.stderr
    assert len((ROOT / "examples" / "batch.py").read_text().splitlines()) <= 30


def test_a_chat(stack: Stack, tmp_path: Path):
    done = run(stack, tmp_path, "chat.py", "a", "question", MILLRACE_API_KEY="mr-cli", MILLRACE_URL=stack.url)
    assert done.stdout.startswith("a question\n[2 + 2 tokens]\n")
    assert [row.split()[0] for row in done.stdout.splitlines()[2:]] == ["miss", "hit"]


def test_avro_straight_onto_the_topic(stack: Stack, tmp_path: Path):
    registry = f"http://127.0.0.1:{stack.ports['REGISTRY']}/apis/ccompat/v7"
    users = f"127.0.0.1:{stack.ports['KAFKA'] + 52}"
    words = ("is", "it", "warm")
    done = run(stack, tmp_path, "produce.py", *words, MILLRACE_KAFKA_USERS=users, MILLRACE_REGISTRY=registry)
    assert done.stdout.startswith("completed sensor-7: ") and "is it warm" in done.stdout
