"""What was erased is in no file and does not come back: parts, finished partitions, kills, rivals, rebuilding."""

from __future__ import annotations

import json
import shutil

import duckdb
import pytest

from schemas import topics
from streams import compaction, erasing, erasure, lake, lake_files, manifest, replay, subject
from streams.compaction import Place
from streams.erasure import Erasure
from streams.objects import Missing, ObjectsError
from streams.partition import Partition
from streams.topic_rows import Row
from tests import lake_rows
from tests.folder_objects import FolderObjects, Killed
from tests.unit.test_compaction import UUID, Home
from tests.unit.test_replay import TopicDouble

HOUR = Partition(lake_rows.FIRST_DAY, 5)
TABLES = {table.name: table for table in lake.TABLES}
NOW = HOUR.closes_ms + 1
# The made-up rows are of the whole day, wherever they lie.
NEXT_DAY = NOW + 18 * 3_600_000


def place(name):
    return Place(TABLES[name], f"{name}/{HOUR.folder}/")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Parts of an hour of three tables, and the erasure of the user who has most rows."""
    folder = tmp_path_factory.mktemp("parts")
    db = duckdb.connect()
    lake_rows.fill(db, rows=6_000, days=1)
    query = 'SELECT tenant, "user", list(request_id) AS ids FROM usage WHERE "user" <> \'\' GROUP BY ALL'
    tenant, user, ids = db.execute(f'{query} ORDER BY len(ids) DESC, tenant, "user" LIMIT 1').fetchone()
    assert 20 < len(ids) < 1_000
    for name in ("usage", "responses", "audit"):
        (folder / place(name).key).mkdir(parents=True)
        for number in range(3):
            rows = f'SELECT * FROM "{name}" WHERE hash(request_id) % 3 = {number}'
            db.execute(f"COPY ({rows}) TO '{folder}/{place(name).key}/part-{UUID}-0-{number}' (FORMAT parquet)")
    return folder, Erasure("e1", tenant, user, NEXT_DAY, tuple(ids))


@pytest.fixture
def home(tmp_path, made):
    new = Home(tmp_path)
    shutil.copytree(made[0], new.bucket_folder, dirs_exist_ok=True)
    return new


def read(home, name, what="*"):
    db = duckdb.connect()
    db.execute(lake.view(TABLES[name], lake_files.find(db, home, name)))
    return db.execute(f'SELECT {what} FROM "{name}" ORDER BY ALL').fetchall()


def left(rows, asked, name):
    """Rows of a table, as they must be afterwards."""
    columns = [c.name for c in lake.columns(TABLES[name].schema)]
    at, tenant = columns.index("request_id"), columns.index("tenant")
    theirs = [row[tenant] == asked.tenant and row[at] in asked.request_ids for row in rows]
    if name == "usage":
        user = columns.index("user")
        return sorted(
            (*row[:user], "", *row[user + 1 :]) if own else row for row, own in zip(rows, theirs, strict=True)
        )
    return [row for row, own in zip(rows, theirs, strict=True) if not own]


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("name", ["usage", "responses", "audit"])
def test_rows_of_the_person_go_and_all_others_stay(home, made, name, finished):
    asked, objects = made[1], FolderObjects(home.bucket_folder)
    if finished:
        compaction.compact(objects, place(name))
    before = read(home, name)
    changed = erasing.clean(objects, place(name), [asked])
    after = read(home, name)
    assert sorted(after) == left(before, asked, name) != sorted(before)
    assert changed == (len(asked.request_ids) if name == "usage" else len(before) - len(after)) > 0
    assert (manifest.SUCCESS in objects.names(place(name).key)) == finished
    done = objects.changes
    assert erasing.clean(objects, place(name), [asked]) == 0 and objects.changes == done, "again changes nothing"


@pytest.mark.parametrize("other", [{"tenant": "another"}, {"user": "0" * 32, "request_ids": ()}, {"at_ms": 0}])
def test_nothing_goes_of_another_tenant_another_user_or_a_later_time(home, made, other):
    asked = made[1]
    changed = {f: getattr(asked, f) for f in asked.__struct_fields__} | other
    objects = FolderObjects(home.bucket_folder)
    assert erasing.clean(objects, place("usage"), [Erasure(**changed)]) == 0
    assert objects.changes == 0


@pytest.mark.parametrize("carry_out", [True, False])
@pytest.mark.parametrize("finished", [False, True])
def test_killed_at_every_step_no_other_row_is_lost_and_the_next_attempt_ends_it(
    home, made, tmp_path, finished, carry_out
):
    asked = made[1]
    before = read(home, "responses")
    after = left(before, asked, "responses")
    for kill_at in range(1, 30):
        other = Home(tmp_path / f"{kill_at}")
        shutil.copytree(home.bucket_folder, other.bucket_folder, dirs_exist_ok=True)
        objects = FolderObjects(other.bucket_folder)
        if finished:
            compaction.compact(objects, place("responses"))

        def look(other=other):
            rows = read(other, "responses")
            assert set(after) <= set(rows) <= set(before) and len(rows) == len(set(rows))

        dies = FolderObjects(other.bucket_folder, kill_at, carry_out=carry_out, after=look)
        with pytest.raises(Killed):
            erasing.clean(dies, place("responses"), [asked])
            raise Killed  # it came to its end
        look()
        erasing.clean(objects, place("responses"), [asked])
        assert sorted(read(other, "responses")) == sorted(after)
        if dies.changes < kill_at:
            break
    assert kill_at == (9 if finished else 4)


def test_a_part_that_the_compactor_takes_away_meanwhile_does_not_come_back(home, made):
    asked, rival = made[1], FolderObjects(home.bucket_folder)

    class Slow(FolderObjects):
        def get(self, key):
            stored = super().get(key)
            if "/part-" in key and manifest.NAME not in rival.names(place("responses").key):
                compaction.compact(rival, place("responses"))
            return stored

    before = read(home, "responses")
    erasing.clean(Slow(home.bucket_folder), place("responses"), [asked])
    assert sorted(read(home, "responses")) == left(before, asked, "responses")
    assert not [n for n in rival.names(place("responses").key) if manifest.is_part(n)]


def test_a_bucket_that_never_rests_is_told(home, made):
    class Restless(FolderObjects):
        def get(self, key):
            if "/part-" in key:
                raise Missing(key)
            return super().get(key)

    with pytest.raises(ObjectsError, match="changes all the time"):
        erasing.clean(Restless(home.bucket_folder), place("responses"), [made[1]])


def test_a_rebuilt_partition_is_without_the_person(home, made):
    asked, objects = made[1], FolderObjects(home.bucket_folder)
    fields = [c.name for c in lake.columns("Response")]
    shown = ", ".join(f'epoch_ms("{n}")' if n.endswith("_at") else f'"{n}"' for n in fields)
    before = read(home, "responses")
    rows = [dict(zip(fields, row, strict=True)) for row in read(home, "responses", shown)]
    erasing.clean(objects, place("responses"), [asked])
    objects.put(erasure.key(asked), erasure.encode(asked))
    topic = TopicDouble([Row("Response", row, HOUR.opens_ms + 2 * 3_600_000) for row in rows])
    replay.replay(objects, topic, TABLES["responses"], HOUR, NOW)
    ids = {row[0] for row in read(home, "responses", "request_id")}
    gone = {row[0] for row in before} & set(asked.request_ids)
    assert gone and not ids & gone


def test_an_erasure_is_known_until_no_topic_has_its_rows(home, made):
    objects = FolderObjects(home.bucket_folder)
    old = Erasure("e0", "acme", "u", NOW - erasure.KEPT_MS - 1)
    for each in (made[1], old):
        objects.put(erasure.key(each), erasure.encode(each))
    assert erasing.load(objects) == [old, made[1]]
    assert erasure.during(erasing.load(objects), HOUR) == [made[1]], "when rows of the hour may still have come"
    erasing.sweep(objects, NOW)
    assert erasing.load(objects) == [made[1]]


def test_letters_of_the_person_go(tmp_path):
    bucket = FolderObjects(tmp_path)
    key = place("dead_letters").key
    values = [b'{"user": "ann", "x":', b'{"user": "bob"}', b"\x00ann", b'{"safety_identifier":"ann"}']
    rows = ", ".join(f"('acme', '{v.hex()}', {n})" for n, v in enumerate(values))
    (tmp_path / key).mkdir(parents=True)
    query = (
        "SELECT t AS tenant, unhex(v) AS value, "
        f'make_timestamp({NOW} * 1000) AS at, n AS "offset" FROM (VALUES {rows}) x(t, v, n)'
    )
    path = tmp_path / key / f"part-{UUID}-0-0"
    duckdb.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    asked = Erasure("e", "acme", subject.of("acme", "ann"), NOW)
    assert erasing.clean(bucket, place("dead_letters"), [asked]) == 2
    assert duckdb.execute(f"SELECT \"offset\" FROM read_parquet('{path}') ORDER BY 1").fetchall() == [(1,), (2,)]
    assert erasing.clean(bucket, place("dead_letters"), [asked]) == 0


@pytest.mark.parametrize("user", ["ann", "Ä", 'a"b', "a\\b", "x" * 300])
def test_a_user_is_found_in_json_in_json_in_json_and_in_other_bytes(user):
    body = {"user": user, "messages": []}
    once = json.dumps(body)
    twice = json.dumps({"body": once})
    for value in (once, json.dumps(body, ensure_ascii=False), twice, f"\x00\x17{once}\x01"):
        assert erasure.users("acme", value.encode()) == {subject.of("acme", user)}
    assert erasure.users("acme", json.dumps({"users": user, "prompt": "user"}).encode()) == set()


def test_every_table_with_texts_or_names_is_treated():
    names = {"body", "value", "user"}
    with_them = {t.name for t in lake.TABLES if names & {c.name for c in lake.columns(t.schema)}}
    assert with_them | {topics.AUDIT} == erasure.TABLES
