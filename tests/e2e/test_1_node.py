"""What a client sees through the unmodified `openai` package for Node: node/conformance.mjs, case by case."""

import json
import re
import subprocess

import pytest

from tests.e2e import bad_input, nodejs
from tests.e2e.stack import Stack

SCRIPT = nodejs.HERE / "conformance.mjs"
NAMES = re.findall(r"^test\('([^']+)'", SCRIPT.read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def outcomes(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """What went wrong with each case, all of which run at the same time; None where nothing did."""
    inputs = tmp_path_factory.mktemp("inputs")
    bad_input.write(inputs)
    env = {"MILLRACE_URL": stack.url}
    command = [nodejs.NODE, SCRIPT, nodejs.install(), inputs]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=240, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr
    return {case["name"]: case["error"] for case in found}


@pytest.mark.parametrize("name", NAMES)
def test_case(outcomes: dict[str, str | None], name: str):
    assert outcomes[name] is None, outcomes[name]


def test_there_are_cases():
    assert len(NAMES) > 15
