"""What a test asks of Flink's REST interface beyond what the stack itself needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx

from tests.e2e.stack import Stack, eventually


def _call(stack: Stack, method: str, path: str, **more: Any) -> dict[str, Any]:
    response = httpx.request(method, f"http://127.0.0.1:{stack.ports['FLINK']}/jobs/{stack.job()}{path}", **more)
    response.raise_for_status()
    found: dict[str, Any] = response.json()
    return found


def homes(stack: Stack) -> set[str]:
    """Ids of the TaskManagers on which tasks of admission run."""
    vertices = [_call(stack, "GET", f"/vertices/{v['id']}") for v in _call(stack, "GET", "")["vertices"]]
    return {task["taskmanager-id"] for vertex in vertices for task in vertex["subtasks"]}


def savepoint(stack: Stack, target: Path) -> Path:
    """Make a savepoint of admission below `target` while it goes on."""
    asked = _call(stack, "POST", "/savepoints", json={"target-directory": f"file://{target}", "cancel-job": False})

    def made() -> dict[str, Any] | None:
        answer = _call(stack, "GET", f"/savepoints/{asked['request-id']}")
        return answer["operation"] if answer["status"]["id"] == "COMPLETED" else None

    operation = eventually(made, 60, "a savepoint")
    assert operation and "location" in operation, operation
    return Path(operation["location"].removeprefix("file:"))
