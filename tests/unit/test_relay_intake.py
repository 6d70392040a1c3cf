from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.arrival import CUT_BYTES, REPLAY_OF, Arrival, BadRecordError, dead_letter, identity
from ingest.intake import DEFAULT_MS, MAX_MS, Tenants, Translator
from ingest.intake_format import Fields, Reader
from schemas import catalogue
from schemas.wire import Codec

CODEC = Codec.offline()
# A registry with one JSON Schema, which knows a field that means nothing here.
KNOWN = {77: frozenset({"messages", "id", "colour"})}
TRANSLATE = Translator(Reader(CODEC, KNOWN.__getitem__))
TENANTS = Tenants(("acme", "globex"), ("globex",))
NOW = 1_700_000_000_000
HELLO = [{"role": "user", "content": "hello"}]


def arrival(value: bytes | None, content_type: str = "", topic: str = "intake.acme") -> Arrival:
    return Arrival(topic, 1, 42, b"k", value, {"content-type": content_type.encode()} if content_type else {})


def avro(**fields: Any) -> Arrival:
    return arrival(CODEC.encode("Intake", {"messages": HELLO, **fields}))


def plain(**fields: Any) -> Arrival:
    return arrival(orjson.dumps({"messages": HELLO, **fields}), "application/json; charset=utf-8")


def framed(schema_id: int = 77, **fields: Any) -> Arrival:
    value = b"\0" + schema_id.to_bytes(4, "big") + orjson.dumps({"messages": HELLO, **fields})
    return arrival(value, "application/schema+json")


def request(a: Arrival) -> dict[str, Any]:
    return dict(TRANSLATE.request(a, TENANTS, NOW))


@pytest.mark.parametrize("make", [avro, plain, framed])
def test_a_record_becomes_a_request(make: Any) -> None:
    a = make(id="i-1", model="echo", max_tokens=7, temperature=0.5, lane="batch", timeout_ms=60_000, correlation_id="c")
    r = request(a)
    assert (r["tenant"], r["request_id"], r["key_id"], r["source"]) == ("acme", "i-1", "intake", "intake")
    assert (r["lane"], r["reply_to"], r["correlation_id"], r["model"]) == ("batch", "", "c", "echo")
    assert (r["received_at"], r["deadline"]) == (NOW, NOW + 60_000)
    assert orjson.loads(r["body"]) == {"model": "echo", "messages": HELLO, "max_tokens": 7, "temperature": 0.5}
    CODEC.encode("Request", r)


@pytest.mark.parametrize("make", [avro, plain, framed])
def test_what_is_left_out_gets_its_default(make: Any) -> None:
    r = request(make())
    assert r["request_id"] == identity(make())
    assert (r["lane"], r["deadline"]) == ("standard", NOW + DEFAULT_MS)
    assert orjson.loads(r["body"]) == {"messages": HELLO}


def test_the_id_of_a_record_is_its_place() -> None:
    places = [Arrival("intake.acme", p, o, None, b"") for p in (0, 1) for o in (0, 1)]
    assert len({identity(a) for a in places}) == 4
    assert identity(places[0]) == identity(places[0]._replace(value=b"other"))


def test_a_replayed_record_is_the_one_it_was() -> None:
    first = Arrival("intake.acme", 0, 7, None, b"")
    again = Arrival("intake.acme", 0, 99, None, b"", {REPLAY_OF: b"0:7"})
    assert identity(again) == identity(first) != identity(again._replace(headers={}))
    for nonsense in (b"", b"0:-7", b"0:7:7", b"\xff", b"0:" + b"7" * 30):
        assert identity(again._replace(headers={REPLAY_OF: nonsense})) == identity(again._replace(headers={}))


def test_what_the_json_schema_declares_and_we_do_not_know_is_left_out() -> None:
    assert request(framed(colour="red"))["body"] == request(plain())["body"]


def test_the_json_schema_has_the_fields_of_the_avro_schema() -> None:
    names = [f["name"] for f in catalogue.raw("Intake")["fields"]]
    assert [*catalogue.json_schema("intake")["properties"]] == names == [*Fields.__struct_fields__]


def test_answers_go_to_the_topic_of_a_tenant_that_asks_for_it() -> None:
    assert request(plain())["reply_to"] == ""
    assert request(plain()._replace(topic="intake.globex"))["reply_to"] == "responses.globex"


def test_time_in_the_topic_counts() -> None:
    r = request(plain(timeout_ms=60_000)._replace(timestamp_ms=NOW - 50_000))
    assert (r["received_at"], r["deadline"]) == (NOW - 50_000, NOW + 10_000)
    ahead = request(plain(timeout_ms=60_000)._replace(timestamp_ms=NOW + 5_000))
    assert (ahead["received_at"], ahead["deadline"]) == (NOW, NOW + 60_000), "a broker's clock may run ahead of ours"


@pytest.mark.parametrize(
    ("fields", "deadline"),
    [
        ({"max_age_ms": 5_000}, NOW - 5_000),
        ({"max_age_ms": 5_000, "created_at": NOW - 30_000}, NOW - 25_000),
        ({"max_age_ms": 5_000, "created_at": NOW + 30_000}, NOW - 5_000),
        ({"max_age_ms": 60_000, "timeout_ms": 20_000}, NOW + 10_000),
        ({"created_at": 1}, NOW - 10_000 + DEFAULT_MS),
    ],
)
def test_what_is_stale_has_its_deadline_behind_it(fields: dict[str, int], deadline: int) -> None:
    assert request(plain(**fields)._replace(timestamp_ms=NOW - 10_000))["deadline"] == deadline


def test_a_letter_too_large_for_any_topic_is_cut_and_says_so() -> None:
    large = arrival(b"x" * (CUT_BYTES + 9), "application/json")._replace(
        headers={"content-type": b"a", "h": b"y" * 70_000}
    )
    letter = dead_letter(large, BadRecordError("large"), NOW)
    assert letter["truncated"] and len(letter["value"]) == CUT_BYTES
    assert letter["headers"] == {"content-type": b"a"} and str(CUT_BYTES + 9) in letter["reason"]


def test_parameters_add_to_the_body_but_do_not_replace_or_stream() -> None:
    given = {"top_p": 0.5, "seed": 1, "messages": [], "stream": True, "stream_options": {}}
    r = request(avro(parameters=orjson.dumps(given).decode()))
    assert orjson.loads(r["body"]) == {"top_p": 0.5, "seed": 1, "messages": HELLO}
    assert request(plain(parameters=given))["body"] == r["body"]


def test_no_deadline_lies_beyond_the_journal() -> None:
    assert request(plain(timeout_ms=10**15))["deadline"] == NOW + MAX_MS


@pytest.mark.parametrize(
    ("bad", "reason", "schema_id"),
    [
        (arrival(None), "no value", None),
        (arrival(b""), "shorter than", None),
        (arrival(b"\x07abcdefgh"), "not the Confluent wire format", None),
        (arrival(b"\x00\x00\x0f\x42\x40rest"), "unknown schema id 1000000", 1_000_000),
        (arrival(CODEC.encode("Intake", {"messages": HELLO}) + b"x"), "left over", True),
        (arrival(CODEC.encode("Intake", {"messages": HELLO})[:-4]), "not a Intake", True),
        (arrival(CODEC.encode("Tick", {"tenant": "acme", "partition": 0})), "not of Intake", True),
        (arrival(b"{", "application/json"), "not a request in JSON", None),
        (arrival(b"[]", "application/json"), "not a request in JSON", None),
        (arrival(b"\xff\xfe", "application/json"), "not a request in JSON", None),
        (plain(top_p=1), "unknown field `top_p`", None),
        (plain(max_tokens="7"), "not a request in JSON", None),
        (plain(messages="hi"), "not a request in JSON", None),
        (plain(id=7), "not a request in JSON", None),
        (plain(id="x" * 300), "`id` is longer", None),
        (plain(lane="interactive"), "`lane`", None),
        (plain(timeout_ms=-1), "`timeout_ms`", None),
        (plain(id="a\nb"), "`id` has", None),
        (plain(order_key="\0credit 1"), "`order_key` has", None),
        (plain(id="*window"), "`id` must not begin", None),
        (plain(correlation_id="x" * 1_100), "`correlation_id` is longer", None),
        (plain(max_age_ms=-1), "`max_age_ms`", None),
        (arrival(b"{}", "text/csv"), "content-type is 'text/csv'", None),
        (framed(78), "unknown schema id 78", 78),
        (framed(size=1), "unknown field `size`", 77),
        (arrival(b"{}", "application/schema+json"), "not the Confluent wire format", None),
        (plain(parameters="{"), "`parameters` is not valid JSON", None),
        (plain(parameters="[1]"), "must be a JSON object", None),
        (plain(model="\x01" * 1_000_000), "bytes", None),
        (arrival(b"x" * (4 * 1024 * 1024 + 1), "application/json"), "bytes", None),
        (plain()._replace(topic="intake.nobody"), "there is no tenant 'nobody'", None),
    ],
)
def test_bad_records_become_dead_letters(bad: Arrival, reason: str, schema_id: int | bool | None) -> None:
    with pytest.raises(BadRecordError) as caught:
        request(bad)
    assert reason in caught.value.reason
    letter = dead_letter(bad, caught.value, NOW)
    assert letter["value"] == (bad.value or b"")
    assert letter["headers"] == bad.headers and not letter["truncated"]
    assert letter["tenant"] == bad.topic.removeprefix("intake.")
    assert letter["schema_id"] == schema_id or (schema_id is True and letter["schema_id"] is not None)
    CODEC.encode("DeadLetter", letter)


def test_a_registry_that_is_away_is_no_fault_of_the_record() -> None:
    def away(_schema_id: int) -> dict[str, Any]:
        raise ConnectionError("registry is away")

    codec = Codec({"Intake": 1}, away)
    with pytest.raises(ConnectionError):
        Translator(Reader(codec)).request(arrival(b"\x00\x00\x00\x00\x63rest"), TENANTS, NOW)
