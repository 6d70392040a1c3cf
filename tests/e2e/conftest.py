"""The stack under test."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e import configuration, faults
from tests.e2e.stack import Stack
from tests.e2e.upstream import Upstream


@pytest.fixture(scope="package")
def mortal() -> Iterator[Upstream]:
    """The first pool of a route; a test lets it die for good."""
    upstream = Upstream()
    yield upstream
    upstream.kill()


@pytest.fixture(scope="package")
def telltale() -> Iterator[Upstream]:
    """An upstream that repeats the key it is called with."""
    upstream = Upstream()
    yield upstream
    upstream.kill()


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory, mortal: Upstream, telltale: Upstream) -> Iterator[Stack]:
    """Started on first use; stopped at the end, when nothing of it may be left."""
    running = Stack(tmp_path_factory.mktemp("millrace") / "home")
    document = configuration.document(mortal.url, telltale.url, [fault.name for fault in faults.ALL])
    try:
        running.run("up")
        running.apply(configuration.write(running.home.parent / "config", document))
        yield running
    finally:
        running.run("down")
        left = [p.cmdline() for p in processes(running.home)]
        assert not left, f"down left processes behind: {left}"


def processes(home: Path) -> list[psutil.Process]:
    """Processes that belong to the stack at `home`."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MILLRACE_HOME") == str(home) and process.ppid() != psutil.Process().pid:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [p for p in found if p.pid != psutil.Process().pid]
