"""Content of the API on its way to a file or to stdout."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import httpx

from ingest.cli.client import PATIENCE_S, PAUSE_S, Client
from ingest.cli.fault import Fault

BLOCK_BYTES: Final = 256 * 1024
CUT_OFF: Final = "connection_broken"


class Written(NamedTuple):
    """What was written, and where to."""

    path: str
    lines: int
    bytes: int


class Sink:
    """Counts what goes through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.bytes = self.lines = 0

    def take(self, block: bytes) -> None:
        """Write a block."""
        self._file.write(block)
        self.bytes += len(block)
        self.lines += block.count(b"\n")


def batch_content(client: Client, batch: dict[str, Any], kind: str, target: str, *, partial: bool) -> Written:
    """Write the results of a batch, `kind` output or error. Raises Fault.

    Whole files of ours are read on where a connection broke; what is put together on the way cannot be.
    """
    file_id = batch["output_file_id" if kind == "output" else "error_file_id"]
    if file_id and file_id.startswith("file-"):
        return file_content(client, file_id, target)
    query = {"kind": kind, "partial": "true" if partial else "false"}
    with _target(target) as sink, client.stream("GET", f"/batches/{batch['id']}/content", params=query) as response:
        for block in response.iter_bytes(BLOCK_BYTES):
            sink.take(block)
    return Written(target, sink.lines, sink.bytes)


def file_content(client: Client, file_id: str, target: str) -> Written:
    """Write the content of a file, in as many requests as it takes. Raises Fault."""
    size: int = client.get(f"/files/{file_id}")["bytes"]
    with _target(target) as sink:
        _until(size, sink, lambda: client.stream("GET", f"/files/{file_id}/content", headers=_from(sink.bytes)))
    return Written(target, sink.lines, sink.bytes)


def _from(start: int) -> dict[str, str]:
    return {"range": f"bytes={start}-"} if start else {}


def _until(size: int, sink: Sink, ask: Callable[[], Any]) -> None:
    """Read until all is there; a minute without a byte is too long."""
    end = time.monotonic() + PATIENCE_S
    while sink.bytes < size:
        before = sink.bytes
        try:
            with ask() as response:
                _copy(response, sink)
        except Fault as fault:
            if fault.code != CUT_OFF and fault.status < 500 and fault.code != "unreachable":
                raise
            if sink.bytes > before:
                end = time.monotonic() + PATIENCE_S
            if time.monotonic() > end:
                raise
            time.sleep(PAUSE_S)


def _copy(response: httpx.Response, sink: Sink) -> None:
    for block in response.iter_bytes(BLOCK_BYTES):
        sink.take(block)


@contextmanager
def _target(name: str) -> Iterator[Sink]:
    """Stdout, or a file that has its name only once it is whole. Raises Fault."""
    if name == "-":
        yield Sink(sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    unfinished = path.with_name(f"{path.name}.part")
    try:
        with unfinished.open("wb") as file:
            yield Sink(file)
        unfinished.replace(path)
    except OSError as error:
        raise Fault(f"{path} cannot be written: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
