"""Writes a complete partition anew, clustered by tenant, in few large files; exactly once, whatever is killed.

The order is what makes a kill at any moment, and two who do it at once, harmless:

1. The new files are uploaded under names of this attempt that no listing shows. Nothing refers to them.
2. The manifest is put, if there is none: from now on the partition is these files. Whoever comes second adopts it.
3. What they replace is deleted. 4. They are copied to their own names. 5. The manifest says so.
6. `_SUCCESS` is put. 7. The staged copies are deleted.

A kill after 2 leaves a manifest from which the next one goes on; each step may be done again.
"""

from __future__ import annotations

import logging
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import msgspec

from streams import lake, manifest
from streams.lake import Table
from streams.manifest import File, Manifest
from streams.objects import Conflict, Missing, Objects, ObjectsError

log = logging.getLogger(__name__)

TARGET_BYTES: Final = 128 * 1024 * 1024
# A row group is sorted and encoded in memory: as many rows as DuckDB likes best, fewer where answers are long.
GROUP_ROWS: Final = 122_880
GROUP_BYTES: Final = 64 * 1024 * 1024
LEAST_ROWS: Final = 2_048
MEMORY: Final = "512MB"
# Staged files of others that are older were left by attempts that are dead.
LEFT_S: Final = 86_400.0


class Place(NamedTuple):
    """A partition's folder: `key` ends in a slash."""

    table: Table
    key: str


def load(objects: Objects, place: Place) -> tuple[Manifest, str] | None:
    """The manifest and its version, or None. Raises ObjectsError."""
    try:
        stored = objects.get(place.key + manifest.NAME)
        return manifest.decode(stored.body), stored.etag
    except Missing:
        return None
    except msgspec.DecodeError as error:
        raise ObjectsError(f"{place.key}{manifest.NAME} cannot be read: {error}") from error


def compact(objects: Objects, place: Place) -> Manifest | None:
    """Write a complete partition anew, or go on where another one was killed; None where it has no rows.

    Raises ObjectsError; doing it again is safe.
    """
    known = load(objects, place)
    if known is None:
        parts = manifest.readable(objects.names(place.key), None)
        # An attempt that was killed right after 2 may be found only now: look again, as the parts may be going already.
        if (known := load(objects, place)) is None:
            if not parts:
                return None
            with tempfile.TemporaryDirectory(prefix="compaction-") as folder:
                inputs = [Path(folder) / name for name in parts]
                for name, path in zip(parts, inputs, strict=True):
                    objects.download(place.key + name, path)
                new = stage(objects, place, write(place.table, inputs, Path(folder)), parts)
            try:
                objects.put(place.key + manifest.NAME, manifest.encode(new))  # 2
            except Conflict:
                log.info("%s: another one was faster", place.key)
    return settle(objects, place)


def stage(objects: Objects, place: Place, files: Sequence[Path], replaces: Sequence[str]) -> Manifest:
    """Step 1: upload files; the manifest that would make them the partition. Raises ObjectsError."""
    token = uuid.uuid4().hex
    made = []
    for number, path in enumerate(files, start=1):
        name = manifest.file_name(token, number)
        objects.upload(path, place.key + manifest.staged(name))
        made.append(File(name, count([path]), path.stat().st_size))
    return Manifest(token, tuple(made), tuple(replaces), staged=True)


def settle(objects: Objects, place: Place) -> Manifest:
    """Steps 3 to 7. Raises ObjectsError."""
    found = load(objects, place)
    if found is None:
        raise ObjectsError(f"{place.key} has no manifest")
    current, etag = found
    if current.staged:
        names = objects.names(place.key)
        gone = [name for name in current.names() if name not in names]
        if gone:
            # Nothing is deleted for the sake of files that are not there: somebody else is ahead, or it is a fault.
            raise ObjectsError(f"{place.key} lacks {gone[0]}")
        for name in current.replaces:
            objects.delete(place.key + name)  # 3
        for file in current.files:
            objects.copy(place.key + manifest.staged(file.name), place.key + file.name)  # 4
        current = msgspec.structs.replace(current, staged=False)
        objects.put(place.key + manifest.NAME, manifest.encode(current), etag=etag)  # 5
    names = objects.names(place.key)
    if manifest.SUCCESS not in names:
        objects.mark(place.key + manifest.SUCCESS)  # 6
    own = {manifest.staged(file.name) for file in current.files}
    for name, written_s in names.items():
        if manifest.is_staged(name) and (name in own or written_s < time.time() - LEFT_S):
            objects.delete(place.key + name)  # 7
    return current


def swap(objects: Objects, place: Place, files: list[Path]) -> Manifest:
    """Put new files in the place of what is there. Raises ObjectsError; doing it again is safe."""
    known = load(objects, place)
    names = objects.names(place.key)
    # Whatever holds rows now: parts, an earlier attempt's files; not the staged ones, which no listing shows.
    replaces = [name for name in names if manifest.is_part(name) or name.startswith("rows-")]
    new = stage(objects, place, files, replaces)
    objects.delete(place.key + manifest.SUCCESS)
    objects.put(place.key + manifest.NAME, manifest.encode(new), etag=known[1] if known else None)
    return settle(objects, place)


def count(paths: Sequence[Path]) -> int:
    """Rows of Parquet files, by their footers."""
    if not paths:
        return 0
    found = duckdb.execute("SELECT sum(num_rows) FROM parquet_file_metadata($1)", [[str(p) for p in paths]]).fetchone()
    return int(found[0]) if found else 0


def rows_of(objects: Objects, place: Place, names: Sequence[str]) -> int:
    """Rows of files in S3. Raises ObjectsError."""
    total = 0
    with tempfile.TemporaryDirectory(prefix="compaction-") as folder:
        path = Path(folder) / "one"
        for name in names:
            objects.download(place.key + name, path)
            total += count([path])
    return total


def write(table: Table, inputs: Sequence[Path], folder: Path) -> list[Path]:
    """The rows of `inputs`, clustered by tenant, in files of about TARGET_BYTES in `folder`.

    Every column of the schema is there, also where an input was older than it. The same rows, or AssertionError.
    """
    whole = folder / "whole.parquet"
    columns = ", ".join(f'"{c.name}"' for c in lake.columns(table.schema))
    with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": str(folder / "spill")}) as db:
        db.execute("SET threads = 1; SET enable_progress_bar = false")
        db.execute(lake.view(table, [str(path) for path in inputs], partitioned=False))
        options = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_group_rows(db, inputs)}"
        rows = f'SELECT {columns} FROM "{table.name}" ORDER BY tenant, "{table.time}"'
        db.execute(f"COPY ({rows}) TO '{whole}' ({options})")
        total = count([whole])
        assert total == count(inputs), f"{total} rows were written of {count(inputs)}"
        pieces = max(1, round(whole.stat().st_size / TARGET_BYTES))
        if pieces == 1:
            return [whole]
        paths = [folder / f"piece-{number}.parquet" for number in range(pieces)]
        for number, path in enumerate(paths):
            first, end = total * number // pieces, total * (number + 1) // pieces
            rows = f"SELECT * FROM '{whole}' LIMIT {end - first} OFFSET {first}"
            db.execute(f"COPY ({rows}) TO '{path}' ({options})")
    assert count(paths) == total, "rows were lost between the pieces"
    return paths


def _group_rows(db: duckdb.DuckDBPyConnection, inputs: Sequence[Path]) -> int:
    query = "SELECT sum(total_uncompressed_size) FROM parquet_metadata($1)"
    found = db.execute(query, [[str(path) for path in inputs]]).fetchone()
    each = (found[0] or 0) / max(1, count(inputs)) if found else 0
    return max(LEAST_ROWS, min(GROUP_ROWS, int(GROUP_BYTES / max(1.0, each))))
