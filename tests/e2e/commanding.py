"""`millrace` as people run it: the installed command, on a pipe or on a terminal, against a stack under test."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import termios
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.stack import ROOT, Stack

COMMAND = ROOT / ".venv" / "bin" / "millrace"
TIMEOUT_S = 120


@dataclass
class Done:
    """How a command ended. On a terminal, stderr is part of stdout."""

    code: int
    out: str
    err: str = ""

    def rows(self) -> list[dict[str, Any]]:
        """JSON lines."""
        return [json.loads(row) for row in self.out.splitlines()]


def _as_from_a_shell() -> None:
    """A background job of a script, as a run of all tests may be, hands down that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Commands:
    """The command of one tenant, run in a folder that is none of ours."""

    def __init__(self, stack: Stack, key: str, folder: Path) -> None:
        self._env = {k: v for k, v in stack.env.items() if not k.startswith(("OPENAI_", "PYTHONPATH"))}
        self._env |= {"MILLRACE_API_KEY": key, "TERM": "xterm-256color"}
        self.folder = folder

    def start(self, *words: str, **more: Any) -> subprocess.Popen[Any]:
        """The running command."""
        return subprocess.Popen([COMMAND, *words], cwd=self.folder, env=self._env, preexec_fn=_as_from_a_shell, **more)

    def __call__(self, *words: str, stdin: str = "") -> Done:
        """Run it with pipes."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        with self.start(*words, text=True, **pipes) as process:
            out, err = process.communicate(stdin, timeout=TIMEOUT_S)
        return Done(process.returncode, out, err)

    def good(self, *words: str, stdin: str = "") -> Done:
        """The same; AssertionError with what it said unless it succeeds."""
        done = self(*words, stdin=stdin)
        assert done.code == 0, f"{words}: {done.out}\n{done.err}"
        return done

    def on_terminal(self, *words: str, columns: int = 100, rows: int = 40) -> Done:
        """Run it on a terminal of that size."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        with self.start(*words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True) as process:
            os.close(slave)
            shown = bytearray()
            try:
                while data := os.read(master, 65_536):
                    shown += data
            except OSError:  # EIO: the last one who had the terminal is gone
                pass
            finally:
                os.close(master)
            process.wait(TIMEOUT_S)
        return Done(process.returncode, shown.decode())


def lines(path: Path, texts: list[str], model: str = "echo", **body: Any) -> Path:
    """A file of one chat line per text, custom ids c0, c1, ..."""
    rows = (
        {
            "custom_id": f"c{i}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": [{"role": "user", "content": text}], **body},
        }
        for i, text in enumerate(texts)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(content: str) -> dict[str, str]:
    """What was answered, by custom id, in the order of the file."""
    rows = map(json.loads, content.splitlines())
    return {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in rows}
