"""The lake's SQL, as text: types, partitions, what a view shows before its first file, which files are whole."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

from schemas import catalogue, topics
from streams import lake, manifest

UUID = "1df5110e-cee4-4c74-97c3-aa3fea5fa78f"
USAGE, RESPONSES, AUDIT, WASTE = lake.TABLES[:4]


def test_every_table_is_a_topic_with_the_schema_of_its_records():
    declared = {t.name: t.schemas for t in topics.FIXED}
    assert {t.name: (t.schema,) for t in lake.TABLES} == {t.name: declared[t.name] for t in lake.TABLES}


def test_the_contracts_columns_are_there():
    promised = {
        "usage": "request_id tenant model pool lane batch_id status cache input_tokens output_tokens cost_micros "
        "received_at completed_at",
        "responses": "request_id tenant model status body",
        "audit": "request_id tenant stage rule action",
    }
    for table in lake.TABLES:
        names = {c.name for c in lake.columns(table.schema)}
        assert set(promised.get(table.name, "").split()) <= names


def test_a_time_is_a_timestamp_in_both_dialects():
    column = {c.name: c for c in lake.columns("Usage")}["completed_at"]
    assert (column.flink, column.duckdb) == ("TIMESTAMP(3)", "TIMESTAMP")


@pytest.mark.parametrize(
    ("avro", "flink"),
    [
        ("bytes", "BYTES"),
        (["null", "long"], "BIGINT"),
        ({"type": "map", "values": "string"}, "MAP<STRING NOT NULL, STRING NOT NULL>"),
        ({"type": "array", "items": "int"}, "ARRAY<INT NOT NULL>"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "TIMESTAMP(3)"),
    ],
)
def test_types(avro, flink):
    assert lake._types(avro)[0] == flink


def test_a_type_without_a_column_is_refused():
    with pytest.raises(KeyError):
        lake._types("fixed")


def test_the_source_reads_only_what_was_committed_and_takes_our_defaults():
    sql = lake.source(USAGE, "k:1", "http://r/v7")
    assert "'properties.isolation.level' = 'read_committed'" in sql
    assert "'scan.startup.mode' = 'earliest-offset'" in sql
    assert '"name":"Usage"' in sql and catalogue.raw("Usage")["doc"].replace("'", "''") in sql


def test_rows_go_to_the_hour_of_their_own_time():
    assert "ELSE DATE_FORMAT(`completed_at`, 'HH') END" in lake.insert(USAGE)
    assert "ELSE DATE_FORMAT(`at`, 'yyyy-MM-dd') END" in lake.insert(AUDIT)
    assert "PARTITIONED BY (`dt`, `hour`)" in lake.sink(WASTE, "s3://b")


def test_quotes_are_doubled():
    assert lake.quote("it's") == "'it''s'"


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        (f"part-{UUID}-0-12", True),
        (f"part-{UUID}-0-12-{UUID}", False),  # how s3proxy calls it while it still writes
        ("_SUCCESS", False),
        (f"part-{UUID}-0-12_tmp_{UUID}", False),
    ],
)
def test_only_whole_files_are_read(name, whole):
    assert manifest.is_part(name) is whole


@pytest.mark.parametrize("table", lake.TABLES, ids=lambda t: t.name)
def test_a_view_is_there_before_its_first_row(table):
    db = duckdb.connect()
    db.execute(lake.view(table, []))
    described = db.execute(f'DESCRIBE "{table.name}"').fetchall()
    assert [(row[0], row[1]) for row in described] == [
        *((c.name, c.duckdb) for c in lake.columns(table.schema)),
        ("dt", "DATE"),
        ("hour", "INTEGER"),
    ]
    assert db.execute(f'SELECT count(*) FROM "{table.name}"').fetchall() == [(0,)]


def test_a_file_older_than_a_column_shows_null(tmp_path):
    folder = tmp_path / "waste" / "dt=2026-01-01" / "hour=09"
    folder.mkdir(parents=True)
    path = folder / f"part-{UUID}-0-0"
    db = duckdb.connect()
    db.execute(f"COPY (SELECT 'r' AS request_id, 7::BIGINT AS input_tokens) TO '{path}' (FORMAT parquet)")
    db.execute(lake.view(WASTE, [str(path)]))
    rows = db.execute(
        "SELECT request_id, input_tokens, reason, dt::VARCHAR, hour FROM waste WHERE hour = '9'"
    ).fetchall()
    assert rows == [("r", 7, None, "2026-01-01", 9)]


def test_terraform_knows_the_types_of_all_columns():
    text = (Path(lake.__file__).parents[1] / "infra" / "terraform" / "modules" / "lake" / "tables.tf").read_text()
    block = text.split("  glue_types = {\n")[1].split("\n  }")[0]
    known = set(re.findall(r"^    (\S+)\s+= \"\w+\"$", block, re.M))
    assert known == set(lake.TYPES)
