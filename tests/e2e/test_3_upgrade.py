"""Admission is replaced by its next version, whose state has one field more, while requests run and wait."""

import json
import shutil
from pathlib import Path

import psutil

from tests.e2e.carrying import Carried
from tests.e2e.cluster import newest, savepoint
from tests.e2e.configuration import CARRIED, UPGRADED
from tests.e2e.stack import ROOT, Stack

SHARED = (".venv", ".runtime")
LEFT = shutil.ignore_patterns(*SHARED, ".git", ".millrace", "__pycache__", ".*_cache", "tests")


def next_version(folder: Path) -> tuple[Path, int]:
    """A copy of the checkout in which the state record Open has one field more; the copy and the new version."""
    shutil.copytree(ROOT, folder, ignore=LEFT)
    for name in SHARED:
        (folder / name).symlink_to(ROOT / name)
    path = folder / "schemas" / "state" / "open.avsc"
    schema = json.loads(path.read_text())
    (path.parent / "past" / f"Open.{schema['version']}.avsc").write_text(json.dumps(schema))
    schema["version"] += 1
    schema["fields"].append({"name": "added", "type": "string", "default": "by an upgrade", "doc": "New."})
    path.write_text(json.dumps(schema))
    return folder, schema["version"]


def written(snapshot: Path, version: int, request_ids: set[str]) -> int:
    """How many of these requests a savepoint holds in this version: its byte, then the id as Avro writes it."""
    content = b"".join(path.read_bytes() for path in snapshot.rglob("*") if path.is_file())
    return sum(bytes([version, 2 * len(name)]) + name.encode() in content for name in request_ids)


def test_requests_held_by_one_version_of_the_state_end_under_the_next(stack: Stack, tmp_path: Path):
    checkout, version = next_version(tmp_path / "next")
    carried = Carried(stack, UPGRADED, minutes=2)
    half = CARRIED // 2
    assert carried.storm(half) == [half] * len(UPGRADED)
    carried.submit()
    carried.call()
    waiting = set[str]().union(*map(carried.waiting, UPGRADED))
    stack.down()
    carried.stopped()
    assert written(newest(stack), version - 1, waiting) == len(waiting) > 0
    stack.root = checkout
    stack.run("up")
    assert str(checkout) in psutil.Process(stack.pid("taskmanager")).environ()["PYTHONPATH"]
    carried.call()
    assert carried.storm(2 * half) == [half] * len(UPGRADED), "quota was lost or doubled on the way"
    asked = {r["request_id"] for r, _ in carried.evidence().of("Request")}
    assert written(savepoint(stack, tmp_path / "savepoints"), version, asked) > 0
    carried.end()
