"""A bucket as a folder of this machine, for tests: it counts what is changed, and can die at any change."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from streams.objects import Conflict, Missing, Stored


class Killed(BaseException):
    """The process that made the change is gone."""


class FolderObjects:
    """Objects below `folder`. The change with the number `kill_at` (from 1) is made, or not made, and never returns.

    `after` is called after each change.
    """

    def __init__(self, folder: Path, kill_at: int = 0, *, carry_out: bool = True, after=lambda: None):
        self.folder, self.kill_at, self.carry_out, self.after = folder, kill_at, carry_out, after
        self.changes = 0

    def _change(self, make):
        self.changes += 1
        dies = self.changes == self.kill_at
        if dies and not self.carry_out:
            raise Killed
        make()
        self.after()
        if dies:
            raise Killed

    def folders(self, prefix):
        place = self.folder / prefix
        return sorted(p.name for p in place.iterdir() if p.is_dir()) if place.is_dir() else []

    def names(self, prefix):
        place = self.folder / prefix
        files = (p for p in place.rglob("*") if p.is_file()) if place.is_dir() else ()
        return {str(p.relative_to(place)): p.stat().st_mtime for p in files}

    def get(self, key):
        try:
            body = (self.folder / key).read_bytes()
        except FileNotFoundError:
            raise Missing(key) from None
        return Stored(body, hashlib.md5(body).hexdigest())

    def put(self, key, body, *, etag=None):
        path = self.folder / key
        if etag is None and path.exists():
            raise Conflict(key)
        if etag is not None and self.get(key).etag != etag:
            raise Conflict(key)
        self._change(lambda: self._write(path, body))

    def _write(self, path, body):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".draft-{path.name}")
        draft.write_bytes(body)
        draft.replace(path)

    def mark(self, key):
        self._change(lambda: self._write(self.folder / key, b""))

    def copy(self, source, target):
        body = self.get(source).body
        self._change(lambda: self._write(self.folder / target, body))

    def delete(self, key):
        self._change(lambda: (self.folder / key).unlink(missing_ok=True))

    def upload(self, path, key):
        self._change(lambda: self._write(self.folder / key, Path(path).read_bytes()))

    def download(self, key, path):
        try:
            shutil.copy(self.folder / key, path)
        except FileNotFoundError:
            raise Missing(key) from None
