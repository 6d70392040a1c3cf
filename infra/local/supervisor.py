"""The process manager: supervisord (https://supervisord.org), its configuration and its interface."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from infra.local import launch
from infra.local.services import ALL, Service
from infra.local.settings import Settings, Trouble

# sockaddr_un holds 108 bytes on Linux and 104 on macOS, the final zero included.
SOCKET_BYTES: Final = 100
START_TIMEOUT_S: Final = 15


def socket_path(settings: Settings) -> Path:
    """The socket in MILLRACE_HOME, or a short path made from its hash where that one is too long."""
    path = settings.home / "run" / "supervisor.sock"
    if len(os.fsencode(path)) <= SOCKET_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"millrace-{os.getuid()}-{digest}.sock"


def _program(settings: Settings, service: Service) -> str:
    python = shlex.quote(str(settings.venv / "bin" / "python"))
    # startsecs=0: any exit is followed by a new start at once; the launcher keeps the pace of one that dies young.
    lines = f"""\
[program:{service.name}]
command={python} -m infra.local.launch {service.name}
directory={settings.checkout}
autostart=false
autorestart=true
startsecs=0
stopsignal=TERM
stopwaitsecs={service.stop_s}
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile={settings.home}/logs/{service.name}.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
"""
    return lines.replace("%", "%%")


def configuration(settings: Settings) -> str:
    """supervisord.conf of this stack."""
    run = settings.home / "run"
    head = f"""\
[supervisord]
logfile={settings.home}/logs/supervisord.log
logfile_maxbytes=5MB
logfile_backups=1
pidfile={run}/supervisord.pid
directory={settings.checkout}
strip_ansi=false
minfds=1024

[unix_http_server]
file={socket_path(settings)}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
""".replace("%", "%%")
    return head + "".join("\n" + _program(settings, service) for service in ALL)


@dataclass(frozen=True, slots=True)
class Process:
    """A service as the process manager sees it. `pid` is 0 and `uptime_s` meaningless unless it runs."""

    name: str
    state: str
    pid: int
    uptime_s: int


class Supervisor:
    """The process manager of one stack. Calls raise OSError or xmlrpc.client.Error if it is not there."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def _rpc(self) -> Any:
        # A proxy is not safe to share between threads, and a new one costs nothing.
        transport = SupervisorTransport(None, None, f"unix://{socket_path(self._settings)}")
        return xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport).supervisor

    def alive(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self._rpc().getState()["statecode"] == 1)
        except (OSError, xmlrpc.client.Error):
            return False

    def begin(self) -> None:
        """Start it, without any service; raises Trouble with its last words if it does not come up."""
        settings = self._settings
        for folder in ("run", "logs"):
            (settings.home / folder).mkdir(parents=True, exist_ok=True)
        path = settings.home / "run" / "supervisord.conf"
        path.write_text(configuration(settings))
        env = {key: value for key, value in os.environ.items() if key not in launch.FOREIGN}
        env.update({**settings.environment("supervisor"), launch.STACK: str(settings.home)})
        daemon = [str(settings.venv / "bin" / "python"), "-m", "supervisor.supervisord", "-c", str(path)]
        done = subprocess.run(daemon, env=env, capture_output=True, text=True, check=False)
        deadline = time.monotonic() + START_TIMEOUT_S
        while done.returncode == 0 and time.monotonic() < deadline:
            if self.alive():
                return
            time.sleep(0.05)
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Trouble(
            f"the process manager did not start: {words[-1] if words else settings.home / 'logs/supervisord.log'}"
        )

    def processes(self) -> list[Process]:
        """All services, in the order of their declaration."""
        found = {
            info["name"]: Process(info["name"], info["statename"], info["pid"], info["now"] - info["start"])
            for info in self._rpc().getAllProcessInfo()
        }
        return [found[service.name] for service in ALL if service.name in found]

    def start(self, names: Iterable[str]) -> None:
        """Start those that do not run, without waiting for them to be of use."""
        states = {process.name: process.state for process in self.processes()}
        rpc = self._rpc()
        for name in names:
            if states.get(name) not in ("STARTING", "RUNNING"):
                rpc.startProcess(name, False)

    def stop(self, names: Iterable[str]) -> None:
        """Stop services together and wait until they are gone; those that will not are killed."""
        rpc, left = self._rpc(), set(names)
        for process in self.processes():
            if process.name in left and process.state in ("STARTING", "RUNNING", "BACKOFF"):
                rpc.stopProcess(process.name, False)
        while left & {p.name for p in self.processes() if p.state in ("STOPPING", "RUNNING", "STARTING")}:
            time.sleep(0.1)

    def end(self) -> None:
        """Stop it, and with it whatever still runs; returns when it is gone."""
        pid = int(self._rpc().getPID())
        self._rpc().shutdown()
        while self.alive() or _exists(pid):
            time.sleep(0.05)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
