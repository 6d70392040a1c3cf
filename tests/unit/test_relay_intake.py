from __future__ import annotations

from typing import Any

import orjson
import pytest

from ingest.intake import DEFAULT_MS, MAX_MS, Arrival, BadRecordError, Translator, dead_letter, identity
from schemas.wire import Codec

CODEC = Codec.offline()
TRANSLATE = Translator(CODEC)
NOW = 1_700_000_000_000
HELLO = [{"role": "user", "content": "hello"}]


def arrival(value: bytes | None, content_type: str = "", topic: str = "intake.acme") -> Arrival:
    return Arrival(topic, 1, 42, b"k", value, content_type)


def avro(**fields: Any) -> Arrival:
    return arrival(CODEC.encode("Intake", {"messages": HELLO, **fields}))


def plain(**fields: Any) -> Arrival:
    return arrival(orjson.dumps({"messages": HELLO, **fields}), "application/json; charset=utf-8")


def request(a: Arrival) -> dict[str, Any]:
    return dict(TRANSLATE.request(a, ("acme", "globex"), NOW))


@pytest.mark.parametrize("make", [avro, plain])
def test_a_record_becomes_a_request(make: Any) -> None:
    a = make(id="i-1", model="echo", max_tokens=7, temperature=0.5, lane="batch", timeout_ms=60_000, correlation_id="c")
    r = request(a)
    assert (r["tenant"], r["request_id"], r["key_id"], r["source"]) == ("acme", "i-1", "intake", "intake")
    assert (r["lane"], r["reply_to"], r["correlation_id"], r["model"]) == ("batch", "", "c", "echo")
    assert (r["received_at"], r["deadline"]) == (NOW, NOW + 60_000)
    assert orjson.loads(r["body"]) == {"model": "echo", "messages": HELLO, "max_tokens": 7, "temperature": 0.5}
    CODEC.encode("Request", r)


@pytest.mark.parametrize("make", [avro, plain])
def test_what_is_left_out_gets_its_default(make: Any) -> None:
    r = request(make())
    assert r["request_id"] == identity(make())
    assert (r["lane"], r["deadline"]) == ("standard", NOW + DEFAULT_MS)
    assert orjson.loads(r["body"]) == {"messages": HELLO}


def test_the_id_of_a_record_is_its_place() -> None:
    places = [Arrival("intake.acme", p, o, None, b"", "") for p in (0, 1) for o in (0, 1)]
    assert len({identity(a) for a in places}) == 4
    assert identity(places[0]) == identity(places[0]._replace(value=b"other"))


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
    assert letter["tenant"] == bad.topic.removeprefix("intake.")
    assert letter["schema_id"] == schema_id or (schema_id is True and letter["schema_id"] is not None)
    CODEC.encode("DeadLetter", letter)


def test_a_registry_that_is_away_is_no_fault_of_the_record() -> None:
    def away(_schema_id: int) -> dict[str, Any]:
        raise ConnectionError("registry is away")

    codec = Codec({"Intake": 1}, away)
    with pytest.raises(ConnectionError):
        Translator(codec).request(arrival(b"\x00\x00\x00\x00\x63rest"), ("acme",), NOW)
