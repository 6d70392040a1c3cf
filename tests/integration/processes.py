"""Our own processes, as the stack starts them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from parts import Parts


class Process:
    """One process of ours; its output lies in `log`."""

    def __init__(self, parts: Parts, service: str, module: str, environment: dict[str, str] | None = None) -> None:
        self.log = parts.settings.home / f"{service}.log"
        self._command = [sys.executable, "-m", module]
        self._environment = {**parts.environment(service), **(environment or {})}
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as log:
            self.popen = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def kill(self) -> None:
        """SIGKILL."""
        self.popen.kill()
        self.popen.wait(10)

    def stop(self, timeout_s: float = 15) -> int:
        """SIGTERM; the exit status."""
        self.popen.terminate()
        try:
            return self.popen.wait(timeout_s)
        finally:
            self.popen.kill()

    def said(self, text: str) -> bool:
        """Whether it logged `text`."""
        return text in self.log.read_text()


def apply(parts: Parts, folder: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m ingest.apply`."""
    command = [sys.executable, "-m", "ingest.apply", str(folder)]
    env = {**parts.environment("apply"), **(environment or {})}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
