"""A partition written anew: the same rows, clustered; a kill at every step; a reader who looks after every change."""

from __future__ import annotations

import itertools
import shutil
import threading
from pathlib import Path

import duckdb
import pytest

from streams import compaction, lake, lake_files, manifest
from streams.compaction import Place
from streams.manifest import File, Manifest
from streams.objects import ObjectsError
from tests import lake_rows
from tests.folder_objects import FolderObjects, Killed

USAGE = lake.TABLES[0]
UUID = "1df5110e-cee4-4c74-97c3-aa3fea5fa78f"
FOLDER = "dt=2026-11-02/hour=05"
PLACE = Place(USAGE, f"usage/{FOLDER}/")


class Home:
    """What lake_files needs to know of a stack: its local bucket."""

    bucket = "millrace"

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.bucket_folder = folder / "s3" / self.bucket
        self.bucket_folder.mkdir(parents=True, exist_ok=True)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """An hour of usage in five files, of which the first is older than the last four columns."""
    folder = tmp_path_factory.mktemp("parts")
    db = duckdb.connect()
    lake_rows.fill(db, rows=400, days=1)
    names = [c.name for c in lake.columns("Usage")]
    for number in range(5):
        shown = ", ".join(f'"{n}"' for n in (names[:-4] if number == 0 else names))
        rows = f"SELECT {shown} FROM usage WHERE rowid % 5 = {number}"
        db.execute(f"COPY ({rows}) TO '{folder}/part-{UUID}-0-{number}' (FORMAT parquet, COMPRESSION zstd)")
    return folder


@pytest.fixture
def home(tmp_path, parts):
    made = Home(tmp_path)
    shutil.copytree(parts, made.bucket_folder / PLACE.key)
    return made


def read(home):
    """Ids as a reader of manifests has them now."""
    db = duckdb.connect()
    db.execute(lake.view(USAGE, lake_files.find(db, home, "usage")))
    return sorted(row[0] for row in db.execute("SELECT request_id FROM usage").fetchall())


def listed(home):
    """Ids as an engine has them that lists the folder."""
    paths = [str(p) for p in (home.bucket_folder / PLACE.key).iterdir() if p.name[0] not in "_."]
    if not paths:
        return []
    query = "SELECT request_id FROM read_parquet($1, union_by_name = true)"
    return sorted(row[0] for row in duckdb.execute(query, [paths]).fetchall())


def names(home):
    return sorted(p.name for p in (home.bucket_folder / PLACE.key).iterdir())


def test_the_same_rows_in_one_file_clustered_by_tenant_and_marked(home):
    before = read(home)
    made = compaction.compact(FolderObjects(home.bucket_folder), PLACE)
    assert made is not None and made.rows == len(before) == 400
    assert read(home) == listed(home) == before
    assert names(home) == sorted([manifest.NAME, manifest.SUCCESS, made.files[0].name])
    file = str(home.bucket_folder / PLACE.key / made.files[0].name)
    order = duckdb.execute("SELECT tenant, completed_at FROM read_parquet($1)", [file]).fetchall()
    assert order == sorted(order)
    query = "SELECT DISTINCT compression, row_group_num_rows FROM parquet_metadata($1)"
    assert duckdb.execute(query, [file]).fetchall() == [("ZSTD", 400)]
    query = f"SELECT count(list_micros), count(*) FROM read_parquet('{file}')"
    assert duckdb.execute(query).fetchone() == (320, 400), "the file older than the column has nothing there"


def changes(home, parts):
    """How many changes a whole compaction makes."""
    counting = FolderObjects(home.bucket_folder)
    compaction.compact(counting, PLACE)
    return counting.changes


@pytest.mark.parametrize("carry_out", [True, False])
def test_killed_at_every_step_a_reader_sees_each_row_once_and_the_next_attempt_ends_it(
    home, parts, tmp_path, carry_out
):
    before = read(home)
    total = changes(home, parts)
    assert total == 1 + 1 + 5 + 1 + 1 + 1 + 1, "upload, manifest, five parts gone, copy, manifest, mark, staged gone"
    for kill_at in range(1, total + 1):
        other = Home(tmp_path / f"{kill_at}")
        shutil.copytree(parts, other.bucket_folder / PLACE.key)

        def look(other=other):
            assert read(other) == before
            if manifest.SUCCESS in names(other):
                assert listed(other) == before, "finished, and yet a listing shows other rows"

        with pytest.raises(Killed):
            compaction.compact(FolderObjects(other.bucket_folder, kill_at, carry_out=carry_out, after=look), PLACE)
        look()
        made = compaction.compact(FolderObjects(other.bucket_folder, after=look), PLACE)
        assert made is not None and made.rows == 400
        shown = names(other)
        assert manifest.SUCCESS in shown and read(other) == listed(other) == before
        left = [name for name in shown if manifest.is_staged(name)]
        # Only what was staged before the first manifest is left: nobody but that attempt knew of it.
        assert all(made.token not in name for name in left) and len(left) <= (kill_at <= 2)


def test_two_at_once_end_in_one_partition(home):
    before = read(home)
    errors = []

    def run():
        for _ in range(20):
            try:
                compaction.compact(FolderObjects(home.bucket_folder), PLACE)
                return
            except ObjectsError as error:
                errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read(home) == listed(home) == before
    assert len([name for name in names(home) if name.startswith("rows-")]) == 1


def test_what_was_finished_is_left_alone(home):
    objects = FolderObjects(home.bucket_folder)
    first = compaction.compact(objects, PLACE)
    done = objects.changes
    assert compaction.compact(objects, PLACE) == first and objects.changes == done


def test_a_partition_without_rows_is_not_marked(tmp_path):
    home = Home(tmp_path)
    assert compaction.compact(FolderObjects(home.bucket_folder), PLACE) is None
    assert not list(home.bucket_folder.rglob("*"))


def test_nothing_is_deleted_for_files_that_are_not_there(home):
    before = names(home)
    lost = Manifest("t", (File("rows-t-00001.parquet", 400, 1),), tuple(before), staged=True)
    objects = FolderObjects(home.bucket_folder)
    objects.put(PLACE.key + manifest.NAME, manifest.encode(lost))
    with pytest.raises(ObjectsError, match="lacks"):
        compaction.compact(objects, PLACE)
    assert set(names(home)) == {*before, manifest.NAME}


def test_a_large_partition_becomes_files_near_the_target(home, monkeypatch, tmp_path):
    whole = compaction.write(USAGE, sorted((home.bucket_folder / PLACE.key).iterdir()), _folder(tmp_path / "a"))
    size = whole[0].stat().st_size
    monkeypatch.setattr(compaction, "TARGET_BYTES", size // 3)
    pieces = compaction.write(USAGE, sorted((home.bucket_folder / PLACE.key).iterdir()), _folder(tmp_path / "b"))
    assert len(pieces) == 3 and compaction.count(pieces) == 400
    tenants = [
        duckdb.execute("SELECT min(tenant), max(tenant) FROM read_parquet($1)", [str(p)]).fetchone() for p in pieces
    ]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(tenants))


def _folder(path):
    path.mkdir()
    return path


def test_long_answers_make_small_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "GROUP_BYTES", 1 << 20)
    path = tmp_path / "part"
    at, body = "TIMESTAMP '2026-11-02 05:00:00' AS completed_at", "repeat(md5(CAST(range AS VARCHAR)), 20) AS body"
    rows = f"SELECT md5(CAST(range AS VARCHAR)) AS request_id, 't' AS tenant, {body}, {at} FROM range(10000)"
    duckdb.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet)")
    (file,) = compaction.write(lake.TABLES[1], [path], tmp_path)
    query = "SELECT max(row_group_num_rows), sum(row_group_num_rows) // count(*) FROM parquet_metadata($1)"
    found = duckdb.execute(query, [str(file)]).fetchone()
    assert found is not None and compaction.LEAST_ROWS <= found[0] < 4_096
