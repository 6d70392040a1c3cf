"""A file on its way to the API: small ones in one request, large ones in parts that are each sent again if need be."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Final

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from ingest.cli import files, quantities, terminal
from ingest.cli.client import Client
from ingest.cli.fault import Fault

# Half of what a part may have. What a broken connection costs is one part.
PART_BYTES: Final = 32 * 1024 * 1024
LOOKED_THROUGH: Final = 10_000
PLAIN_EVERY_S: Final = 5.0


def put(client: Client, path: Path, name: str, *, reuse: bool = False) -> str:
    """Bring a file to the API; its id there.

    With `reuse` the file is named by its content, and one that is there already is not sent again: so submitting it
    again asks for the very same batch. Raises Fault.
    """
    try:
        size = path.stat().st_size
        if reuse:
            name = content_name(name, digest(path))
            if (there := _there(client, name, size)) is not None:
                return there
        with path.open("rb") as file, _showing(name, size) as shown:
            return _parts(client, file, name, size, shown) if size > PART_BYTES else _whole(client, file, name)
    except OSError as error:
        raise Fault(f"{path} cannot be read: {error.strerror}") from None


def content_name(name: str, digest: str) -> str:
    """A name that says what is in the file: tickets.jsonl as tickets.1f2e3d….jsonl."""
    path = PurePath(name)
    return f"{path.stem[:180]}.{digest}{path.suffix[:20]}"


def digest(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def _there(client: Client, name: str, size: int) -> str | None:
    """The oldest file of this content: two who sent it at once then agree on one of them."""
    known = islice(files.found(client), LOOKED_THROUGH)
    same = [f["id"] for f in known if (f["filename"], f["bytes"], f["purpose"]) == (name, size, "batch")]
    return same[-1] if same else None


def _whole(client: Client, file: BinaryIO, name: str) -> str:
    data = file.read()
    form: Any = {"data": {"purpose": "batch"}, "files": {"file": (name, data, "application/jsonl")}}
    return str(client.send("POST", "/files", **form)["id"])


def _parts(client: Client, file: BinaryIO, name: str, size: int, shown: Shown) -> str:
    order = {"filename": name, "bytes": size, "purpose": "batch", "mime_type": "application/jsonl"}
    upload_id = client.post("/uploads", order)["id"]
    sent, part_ids, whole = 0, [], hashlib.md5(usedforsecurity=False)
    while data := file.read(PART_BYTES):
        whole.update(data)
        form: Any = {"files": {"data": (name, data, "application/octet-stream")}}
        part_ids.append(client.send("POST", f"/uploads/{upload_id}/parts", **form)["id"])
        sent += len(data)
        shown.sent(sent)
    if sent != size:
        raise Fault(f"{name} changed while it was sent: it had {size} bytes, now {sent}")
    body = {"part_ids": part_ids, "md5": whole.hexdigest()}
    return str(client.post(f"/uploads/{upload_id}/complete", body)["file"]["id"])


class Shown:
    """Where nobody watches: a line of progress now and then."""

    def __init__(self, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._told_s = time.monotonic()

    def sent(self, count: int) -> None:
        """So many bytes are there."""
        if time.monotonic() - self._told_s < PLAIN_EVERY_S:
            return
        self._told_s = time.monotonic()
        terminal.say(f"{self._name}: {quantities.size(count)} of {quantities.size(self._size)} sent")


class Bar(Shown):
    """On a terminal: a bar."""

    def __init__(self, name: str, size: int, progress: Progress) -> None:
        super().__init__(name, size)
        self._progress = progress
        self._task = progress.add_task(name, total=size)

    def sent(self, count: int) -> None:
        """So many bytes are there."""
        self._progress.update(self._task, completed=count)


@contextmanager
def _showing(name: str, size: int) -> Iterator[Shown]:
    if not terminal.lively() or size <= PART_BYTES:
        yield Shown(name, size)
        return
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True)
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=terminal.aside(), transient=True
    ) as bar:
        yield Bar(name, size, bar)
