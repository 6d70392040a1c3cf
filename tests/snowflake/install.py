"""Makes the environment of the double in .runtime, once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

from infra.local import install
from infra.local.install import RUNTIME, VENV

LOCK: Final = Path(__file__).with_name("requirements.lock")
HOME: Final = RUNTIME / "fakesnow"
PYTHON: Final = HOME / "bin" / "python"


def fetch() -> None:
    """The environment, by uv."""
    install.say("installing fakesnow into .runtime (about 150 MB)")
    shutil.rmtree(HOME, ignore_errors=True)
    uv, env = [VENV / "bin" / "uv"], {**os.environ, "UV_LINK_MODE": "copy", "UV_SYSTEM_CERTS": "1"}
    install.run([*uv, "venv", "--quiet", "--python", VENV / "bin" / "python", HOME], "creating an environment", env)
    install.run([*uv, "pip", "install", "--quiet", "--python", PYTHON, "-r", LOCK], "installing fakesnow", env)


def main() -> None:
    """Fetch what is missing."""
    install.step("fakesnow", install.digest(LOCK), PYTHON, fetch)


if __name__ == "__main__":
    main()
