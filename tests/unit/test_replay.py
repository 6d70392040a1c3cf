"""A partition rebuilt from its topic, over a double of the topic and a bucket in a folder."""

from __future__ import annotations

from datetime import date

import duckdb
import pytest

from schemas import catalogue
from streams import compaction, lake, lake_files, manifest, partition, replay
from streams.compaction import Place
from streams.partition import Partition
from streams.replay import ReplayError
from streams.topic_rows import Row
from tests import lake_rows
from tests.folder_objects import FolderObjects, Killed
from tests.unit.test_compaction import Home

USAGE = lake.TABLES[0]
HOUR = Partition(date(2026, 11, 2), 5)
PLACE = Place(USAGE, f"usage/{HOUR.folder}/")
LATER = HOUR.closes_ms + 1


class TopicDouble:
    """Records and when they were appended."""

    def __init__(self, rows, *, whole=True, unreadable=0):
        self._rows, self._whole, self.unreadable = rows, whole, unreadable

    def has_all_since(self, start_ms):
        return self._whole

    def rows(self, start_ms, end_ms):
        return (row for row in self._rows if start_ms <= row.appended_ms < end_ms)


@pytest.fixture(scope="module")
def records():
    """Usage of a day, each row appended 30 ms after its end."""
    db = duckdb.connect()
    lake_rows.fill(db, rows=2_000, days=1)
    fields = [f["name"] for f in catalogue.raw("Usage")["fields"]]
    shown = ", ".join(f'epoch_ms("{n}")' if n.endswith("_at") else f'"{n}"' for n in fields)
    found = [dict(zip(fields, row, strict=True)) for row in db.execute(f"SELECT {shown} FROM usage").fetchall()]
    return [Row("Usage", record, record["completed_at"] + 30) for record in found]


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def read(home, what="request_id, completed_at, cost_micros"):
    db = duckdb.connect()
    db.execute(lake.view(USAGE, lake_files.find(db, home, "usage")))
    return db.execute(f"SELECT {what} FROM usage ORDER BY ALL").fetchall()


def expected(records):
    return sorted(
        r.record["request_id"] for r in records if partition.of(r.record["completed_at"], r.appended_ms) == HOUR
    )


def test_the_rows_of_the_topic_in_order_and_the_same_again(home, records):
    objects = FolderObjects(home.bucket_folder)
    replay.replay(objects, TopicDouble(records), USAGE, HOUR, LATER)
    first = read(home, "*")
    assert [row[0] for row in read(home)] == expected(records) and len(first) > 50
    replay.replay(objects, TopicDouble(list(reversed(records))), USAGE, HOUR, LATER)
    assert read(home, "*") == first
    folder = home.bucket_folder / PLACE.key
    assert sorted(p.name[:5] for p in folder.iterdir()) == ["_MANI", "_SUCC", "rows-"]


def test_a_damaged_partition_is_whole_again_and_killed_at_every_step_readers_see_one_or_the_other(home, records):
    objects = FolderObjects(home.bucket_folder)
    replay.replay(objects, TopicDouble(records[::2]), USAGE, HOUR, LATER)
    damaged, good = read(home), expected(records)
    assert 0 < len(damaged) < len(good)

    def look():
        assert read(home) == damaged or [row[0] for row in read(home)] == good

    for kill_at in range(1, 30):
        with pytest.raises(Killed):
            dies = FolderObjects(home.bucket_folder, kill_at, after=look)
            replay.replay(dies, TopicDouble(records), USAGE, HOUR, LATER)
            raise Killed  # it came to its end
        look()
        if dies.changes < kill_at:
            break
        compaction.compact(objects, PLACE)  # what the compactor does after it
        look()
    assert kill_at == 9, "staged, mark gone, manifest, old file gone, copied, manifest, mark, staged gone"
    assert [row[0] for row in read(home)] == good


@pytest.mark.parametrize(
    ("topic", "now_ms", "why"),
    [
        ({}, HOUR.closes_ms - 1, "is open"),
        ({"whole": False}, LATER, "no longer has all"),
        ({"unreadable": 2}, LATER, "2 records"),
        ({"rows": []}, LATER, "has no row"),
    ],
)
def test_what_cannot_be_rebuilt_is_left_as_it_is(home, records, topic, now_ms, why):
    objects = FolderObjects(home.bucket_folder)
    replay.replay(objects, TopicDouble(records), USAGE, HOUR, LATER)
    before, done = read(home), objects.changes
    with pytest.raises(ReplayError, match=why):
        replay.replay(objects, TopicDouble(**({"rows": records} | topic)), USAGE, HOUR, now_ms)
    assert read(home) == before and objects.changes == done


def test_times_that_no_engine_shows_are_moved_as_the_job_moves_them(home, records):
    day = Partition(HOUR.day, partition.STRANGE)
    odd = [Row("Usage", records[0].record | {"completed_at": at}, LATER) for at in (-(2**62), 2**62)]
    replay.replay(FolderObjects(home.bucket_folder), TopicDouble(odd), USAGE, day, day.closes_ms)
    assert [str(row[0]) for row in read(home, "completed_at")] == [
        t[:19] if t[-3:] == "000" else f"{t}000" for t in lake.TIMES
    ]


def test_every_type_of_a_column_has_its_arrow():
    assert set(replay.ARROW) >= {c.duckdb for table in lake.TABLES for c in lake.columns(table.schema)}
    assert manifest.NAME < "part-"
