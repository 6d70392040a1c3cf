"""Takes away what nobody will ask for again: expired files and uploads, bytes without a file, uploads never ended.

Everything here may be done twice, by two processes at once, or be cut off anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final

import msgspec

from ingest import ids, places
from ingest.file_store import CONTENT, OBJECT, FileStore
from ingest.storage import Missing, Storage, StorageError

log = logging.getLogger(__name__)

EXPIRED_MS: Final = 60_000
ORPHANS_MS: Final = 3_600_000
# Bytes get their file object right after they are there; only a writer that died leaves them alone for longer.
ORPHAN_S: Final = 86_400
# No client sends one file for longer than this, and no batch, whose files are put together meanwhile, takes longer.
UNFINISHED_S: Final = 8 * 86_400
# Of each kind in a round; the next round takes the others.
MOST: Final = 10_000


class Sweeper:
    """Begins rounds in a thread of `executor` when it is time; one at a time."""

    def __init__(self, storage: Storage, executor: Executor) -> None:
        self._storage = storage
        self._executor = executor
        self._running: Future[None] | None = None
        self._expired_ms = self._orphans_ms = 0

    def look(self, now_ms: int) -> None:
        """Begin a round if one is due. What fails is tried again in the next one."""
        if self._running is not None and not self._running.done():
            return
        if now_ms - self._expired_ms < EXPIRED_MS:
            return
        self._expired_ms = now_ms
        orphans = now_ms - self._orphans_ms >= ORPHANS_MS
        if orphans:
            self._orphans_ms = now_ms
        self._running = self._executor.submit(partial(sweep, self._storage, now_ms // 1000, orphans=orphans))


def sweep(storage: Storage, now_s: int, *, orphans: bool) -> None:
    """One round; also what dead writers left, if `orphans`. Says what it did in the log, and what failed."""
    try:
        swept = {"expired": expired(storage, now_s)}
        if orphans:
            swept |= {"orphans": orphaned(storage, now_s), "unfinished uploads": unfinished(storage, now_s)}
    except StorageError as error:
        log.warning("sweeping stopped, and begins anew later: %s", error)
        return
    if any(swept.values()):
        log.info("swept %s", ", ".join(f"{count} {what}" for what, count in swept.items() if count))


def expired(storage: Storage, now_s: int) -> int:
    """Remove files and uploads whose time is over, but no file that an open batch reads; how many went."""
    count = 0
    for mark in storage.keys(places.EXPIRING):
        seconds, tenant, name = places.of_expiry(mark)
        if seconds > now_s or count >= MOST:
            break
        if name.startswith(ids.FILE):
            store = FileStore(storage)
            if store.in_use(tenant, name):
                continue
            store.delete(tenant, name)
        else:
            storage.delete(storage.keys(places.upload_parts(tenant, name)))
            storage.delete([places.upload(tenant, name)])
        storage.delete([mark])
        count += 1
    return count


def orphaned(storage: Storage, now_s: int) -> int:
    """Remove contents that have had no file object for a day; how many went."""
    gone: list[str] = []
    for stem in _alone(storage.keys(places.FILES)):
        if len(gone) >= MOST:
            break
        try:
            old = now_s - storage.modified_s(stem + CONTENT) >= ORPHAN_S
        except Missing:
            continue
        if old and not _is_there(storage, stem + OBJECT):  # it may have come since it was listed
            gone.append(stem + CONTENT)
    storage.delete(gone)
    return len(gone)


def _alone(keys: Iterator[str]) -> Iterator[str]:
    """Of contents without an object, the names without an ending. An object's key sorts right after its content's."""
    waiting = ""
    for key in keys:
        if waiting and key != waiting + OBJECT:
            yield waiting
        waiting = key.removesuffix(CONTENT) if key.endswith(CONTENT) else ""
    if waiting:
        yield waiting


def _is_there(storage: Storage, key: str) -> bool:
    try:
        storage.size(key)
    except Missing:
        return False
    return True


def unfinished(storage: Storage, now_s: int) -> int:
    """Give up uploads in parts that were seen eight days ago and are still there; how many.

    Not every server tells when an upload began, so what was seen is kept in an object of our own.
    """
    seen = _seen(storage)
    still: dict[str, int] = {}
    count = 0
    for key, upload in storage.unfinished():
        if len(still) >= MOST or count >= MOST:
            break
        since = seen.get(upload, now_s)
        if now_s - since < UNFINISHED_S:
            still[upload] = since
            continue
        try:
            storage.drop_upload(key, upload)
        except Missing:
            continue
        count += 1
    if still != seen:
        storage.put(places.SWEEPER, msgspec.json.encode(still))
    return count


def _seen(storage: Storage) -> dict[str, int]:
    try:
        return msgspec.json.decode(storage.get(places.SWEEPER).body, type=dict[str, int])
    except (Missing, msgspec.DecodeError):
        return {}
