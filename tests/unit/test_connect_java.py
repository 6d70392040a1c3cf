"""The connectors' own tests (ingest/connect/src/test), by JUnit, on the classes that `make install` compiled."""

from __future__ import annotations

import re
import subprocess

from infra.local import java
from infra.local.settings import CHECKOUT, Settings

BUILD = CHECKOUT / ".runtime" / "connect-build"


def test_the_connectors_tests_pass() -> None:
    settings = Settings.read({})
    (runner,) = (BUILD / "junit").glob("junit-platform-console-standalone-*.jar")
    tests = BUILD / "test-classes"
    line = java.command(settings, "256m", java.FIRST_COMPILER, "-jar", str(runner), "execute", "--disable-banner",
                        "--disable-ansi-colors", "--details=summary", f"--scan-class-path={tests}",
                        "--class-path", f"{tests}:{java.classpath(settings.runtime / 'connect')}")  # fmt: skip
    done = subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"\[\s+(\d+) tests successful", done.stdout)
    wanted = sum(path.read_text().count("Test\n") for path in (CHECKOUT / "ingest/connect/src/test").rglob("*.java"))
    assert found and int(found[1]) >= wanted > 0, done.stdout
