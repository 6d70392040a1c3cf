"""Takes what was erased out of the lake's files: out of parts as they lie, out of finished partitions by writing anew.

A part that the compactor takes away meanwhile is not put back, as it is only written over the version that was read.
Who finishes a partition cleans it afterwards, by the erasures there are by then; an erasure that is stored later finds
it finished. So none is missed, whoever is faster.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas import topics
from streams import compaction, erasure, lake, manifest
from streams.compaction import Place
from streams.erasure import Erasure
from streams.lake import Table
from streams.objects import Conflict, Missing, Objects, ObjectsError

log = logging.getLogger(__name__)

TRIES: Final = 5


def load(objects: Objects) -> list[Erasure]:
    """Every erasure, oldest first. Raises ObjectsError."""
    found = []
    for name in sorted(objects.names(erasure.PREFIX)):
        try:
            found.append(erasure.decode(objects.get(erasure.PREFIX + name).body))
        except Missing:
            continue  # its time was over
        except msgspec.DecodeError as error:
            raise ObjectsError(f"{erasure.PREFIX}{name} cannot be read: {error}") from error
    return found


def sweep(objects: Objects, now_ms: int) -> None:
    """Forget erasures that nothing can bring back. Raises ObjectsError."""
    for name in objects.names(erasure.PREFIX):
        if erasure.is_over(name, now_ms):
            objects.delete(erasure.PREFIX + name)


def clean(objects: Objects, place: Place, erasures: Sequence[Erasure]) -> int:
    """Take out of a partition what was erased; how many rows changed or went. Raises ObjectsError.

    Doing it again is safe, also after a kill at any moment.
    """
    if not erasures or place.table.name not in erasure.TABLES:
        return 0
    for _ in range(TRIES):
        try:
            if compaction.load(objects, place) is not None:
                return _clean_finished(objects, place, erasures)
            changed = _clean_parts(objects, place, erasures)
            if compaction.load(objects, place) is None:
                return changed
        except (Conflict, Missing) as error:
            log.info("%s: somebody else was faster: %s", place.key, error)
    raise ObjectsError(f"{place.key} changes all the time; try again")


def _clean_parts(objects: Objects, place: Place, erasures: Sequence[Erasure]) -> int:
    changed = 0
    with tempfile.TemporaryDirectory(prefix="erasure-") as name:
        folder = Path(name)
        for part in manifest.readable(objects.names(place.key), None):
            stored = objects.get(place.key + part)
            (folder / "part").write_bytes(stored.body)
            made = _without(place.table, folder / "part", folder / "clean", erasures)
            if made:
                objects.put(place.key + part, (folder / "clean").read_bytes(), etag=stored.etag)
                changed += made
    return changed


def _clean_finished(objects: Objects, place: Place, erasures: Sequence[Erasure]) -> int:
    found = compaction.settle(objects, place)
    changed, paths = 0, []
    with tempfile.TemporaryDirectory(prefix="erasure-") as name:
        folder = Path(name)
        for number, file in enumerate(found.names()):
            path, clean_path = folder / f"file-{number}", folder / f"clean-{number}"
            objects.download(place.key + file, path)
            made = _without(place.table, path, clean_path, erasures)
            paths.append(clean_path if made else path)
            changed += made
        if changed:
            compaction.swap(objects, place, compaction.write(place.table, paths, folder))
    return changed


def _without(table: Table, path: Path, out: Path, erasures: Sequence[Erasure]) -> int:
    """Write what is left of a Parquet file, if that is not all of it; how many rows changed or went."""
    if table.name == topics.DEAD_LETTERS:
        return _without_letters(path, out, erasures)
    with duckdb.connect(config={"memory_limit": compaction.MEMORY, "temp_directory": str(out) + "-spill"}) as db:
        db.execute("SET threads = 1; SET enable_progress_bar = false; SET TimeZone = 'UTC'")
        file = f"read_parquet({lake.quote(str(path))})"
        theirs = condition(db, table, file, erasures)
        left = f"SELECT * FROM {file} r WHERE NOT {theirs}"
        if table.name == topics.USAGE:
            left = f'SELECT * REPLACE (CASE WHEN {theirs} THEN \'\' ELSE "user" END AS "user") FROM {file} r'
        counted = db.execute(f"SELECT count(*) FROM {file} r WHERE {theirs}").fetchone()
        changed = int(counted[0]) if counted else 0
        if changed:
            db.execute(f"COPY ({left}) TO {lake.quote(str(out))} (FORMAT parquet, COMPRESSION zstd)")
        return changed


def condition(db: duckdb.DuckDBPyConnection, table: Table, source: str, erasures: Sequence[Erasure]) -> str:
    """SQL that says of a row `r` of `source` whether it was erased, over a table `erased` that this makes.

    Of every table but that of dead letters, which erasure.concerns tells.
    """
    if table.name == topics.USAGE:
        if "user" not in {row[0] for row in db.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}:
            return "false"  # older than the column
        columns = [[e.tenant for e in erasures], [e.user for e in erasures], [e.at_ms for e in erasures]]
        db.register("erased", pa.table(columns, ["tenant", "name", "at_ms"]))
        known = f'e.tenant = r.tenant AND e.name = r."user" AND epoch_ms(r."{table.time}") <= e.at_ms'
        return f"EXISTS (SELECT 1 FROM erased e WHERE {known})"
    ids = [(e.tenant, request_id) for e in erasures for request_id in e.request_ids]
    columns = [pa.array([row[i] for row in ids], pa.string()) for i in (0, 1)]
    db.register("erased", pa.table(columns, ["tenant", "request_id"]))
    return "(r.tenant, r.request_id) IN (SELECT (tenant, request_id) FROM erased)"


def _without_letters(path: Path, out: Path, erasures: Sequence[Erasure]) -> int:
    letters = pq.read_table(path)  # type: ignore[no-untyped-call]
    moments = letters["at"].cast(pa.timestamp("ms")).cast(pa.int64())
    rows = zip(letters["tenant"].to_pylist(), letters["value"].to_pylist(), moments.to_pylist(), strict=True)
    kept = [not erasure.concerns(erasures, *row) for row in rows]
    if all(kept):
        return 0
    pq.write_table(letters.filter(pa.array(kept)), out, compression="zstd")  # type: ignore[no-untyped-call]
    return kept.count(False)
