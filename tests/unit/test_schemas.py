"""Schemas: golden bytes of every version, generated records, the wire format, and compatibility."""

import io
import json
from pathlib import Path

import fastavro
import pytest

from schemas import catalogue, generate, topics
from schemas.wire import Codec, StateCodec, WireError, plain
from tests.golden.write import HERE, encoded, sample

GOLDEN = sorted(HERE.glob("v*/*.json"))
NEWEST = max(HERE.glob("v*"), key=lambda p: int(p.name[1:]))


def current(path: Path):
    where, name = path.stem.split("-")
    return catalogue.raw(name, where)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_bytes_of_every_version_are_readable_today(path):
    golden = json.loads(path.read_text())
    writer, reader = fastavro.parse_schema(golden["schema"]), fastavro.parse_schema(plain(current(path)))
    record = fastavro.schemaless_reader(io.BytesIO(bytes.fromhex(golden["bytes"])), writer, reader)
    assert {k: record[k] for k in (f["name"] for f in golden["schema"]["fields"])} == sample(golden["schema"])


@pytest.mark.parametrize("path", sorted(NEWEST.glob("*.json")), ids=lambda p: p.stem)
def test_the_newest_version_is_what_is_written_today(path):
    schema = current(path)
    assert json.loads(path.read_text()) == {"schema": plain(schema), "bytes": encoded(schema, sample(schema)).hex()}


def test_every_schema_has_golden_bytes():
    assert {p.stem for p in NEWEST.glob("*.json")} == {
        f"{where}-{name}" for where in ("avro", "state") for name in catalogue.names(where)
    }


def test_the_typed_records_are_those_of_the_schemas():
    assert (Path(generate.__file__).parent / "records.py").read_text() == generate.render()


@pytest.mark.parametrize("name", catalogue.names())
def test_a_record_survives_the_wire(name):
    codec = Codec.offline()
    record = sample(catalogue.raw(name))
    assert codec.decode(codec.encode(name, record)) == (name, record)


@pytest.mark.parametrize("name", topics.JOURNAL_RECORDS)
def test_the_tenant_comes_first_in_every_journal_record(name):
    assert catalogue.raw(name)["fields"][0]["name"] == "tenant"


@pytest.mark.parametrize("folder", ["avro", "state"])
def test_every_field_says_what_it_is(folder):
    for name in catalogue.names(folder):
        assert catalogue.raw(name, folder)["doc"]
        assert all(f.get("doc") for f in catalogue.raw(name, folder)["fields"]), name


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "shorter"),
        (b"\x00\x00\x00", "shorter"),
        (b"\x01\x00\x00\x00\x01abc", "first byte"),
        (b"\x00\x00\x00\xff\xffabc", "unknown schema id 65535"),
    ],
)
def test_bytes_that_are_no_record_say_why(data, reason):
    with pytest.raises(WireError, match=reason):
        Codec.offline().decode(data)


def test_a_cut_or_lengthened_record_is_refused_with_its_schema_id():
    codec = Codec.offline()
    data = codec.encode("Request", sample(catalogue.raw("Request")))
    for broken in (data[:-3], data + b"x"):
        with pytest.raises(WireError) as caught:
            codec.decode(broken)
        assert caught.value.schema_id is not None


def test_an_older_writer_is_read_through_the_registry():
    old = {
        "type": "record",
        "name": "Tick",
        "namespace": "millrace",
        "fields": [{"name": "tenant", "type": "string"}, {"name": "partition", "type": "int"}],
    }
    codec = Codec({"Tick": 1}, {9: old}.__getitem__)
    assert codec.decode(b"\x00\x00\x00\x00\x09\x00\x06") == ("Tick", {"tenant": "", "partition": 3})
    with pytest.raises(WireError, match="unknown schema id 8"):
        codec.decode(b"\x00\x00\x00\x00\x08\x00\x06")


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ("string", "no place here"),
        (["null", "string"], "no place here"),
        ({"type": "object", "properties": {}}, "no place here"),
        ({"type": "record", "name": "Tick", "fields": [{"name": "x", "type": "of.another.Subject"}]}, "cannot be read"),
    ],
)
def test_a_schema_of_others_is_a_clear_fault_of_the_record(schema, why):
    with pytest.raises(WireError, match=why) as caught:
        Codec({"Tick": 1}, {9: schema}.__getitem__).decode(b"\x00\x00\x00\x00\x09\x00\x06")
    assert caught.value.schema_id == 9


def test_state_of_an_unknown_version_is_refused():
    codec = StateCodec()
    record = sample(catalogue.raw("Done", "state"))
    assert codec.decode("Done", codec.encode("Done", record)) == record
    with pytest.raises(WireError, match="version 99"):
        codec.decode("Done", b"\x63" + codec.encode("Done", record)[1:])


def test_state_of_every_past_version_is_read_with_defaults_for_what_is_new():
    seen = set()
    for path in sorted((HERE / "v1").glob("state-*.json")):
        golden, name = json.loads(path.read_text()), path.stem.partition("-")[2]
        record = StateCodec().decode(name, b"\x01" + bytes.fromhex(golden["bytes"]))
        defaults = {f["name"]: f.get("default") for f in catalogue.raw(name, "state")["fields"]}
        written = sample(golden["schema"])
        assert record == {n: written.get(n, default) for n, default in defaults.items()}
        seen.add(catalogue.version(name))
    assert max(seen) > 1, "no schema ever changed: this test shows nothing"


@pytest.mark.parametrize("name", catalogue.names("state"))
def test_every_past_version_of_a_state_schema_is_kept(name):
    for number in range(1, catalogue.version(name)):
        assert catalogue.past(name, number).get("version", 1) == number
