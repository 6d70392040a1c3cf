"""Producers that write to their intake topic instead of calling the gateway."""

import uuid

from tests.e2e.evidence import records
from tests.e2e.producing import intake, produce
from tests.e2e.stack import Stack, eventually


def test_an_avro_record_becomes_an_answered_request_of_the_topics_tenant(stack: Stack):
    name = f"device-{uuid.uuid4().hex}"
    message = [{"role": "user", "content": "twenty one degrees"}]
    produce(stack, "acme", *[intake(stack, "acme", id=name, messages=message, correlation_id="sensor-7")] * 3)
    (row,) = eventually(
        lambda: [u for u in records(stack, "usage", {"acme"}) if u["request_id"] == name], 30, "the usage row"
    )
    assert (row["status"], row["lane"], row["input_tokens"]) == ("completed", "standard", 3)
    (response,) = [r for r in records(stack, "responses", {"acme"}) if r["request_id"] == name]
    assert response["correlation_id"] == "sensor-7" and "twenty one degrees" in response["body"]


def test_what_is_no_record_is_set_aside_with_its_bytes_and_stops_nothing(stack: Stack):
    good = intake(stack, "acme", id=f"after-{uuid.uuid4().hex}", messages=[{"role": "user", "content": "still alive"}])
    unknown, broken = b"\x00\x7f\xff\xff\xff" + good[5:], good[:9]
    produce(stack, "acme", unknown, broken, b"not avro at all", good)
    letters = eventually(
        lambda: (
            (x := {d["value"]: d for d in records(stack, "dead_letters")})
            and {unknown, broken, b"not avro at all"} <= x.keys()
            and x
        ),
        30,
        "the dead letters",
    )
    assert letters[unknown]["schema_id"] == 0x7FFFFFFF and "unknown schema id" in letters[unknown]["reason"]
    assert letters[broken]["reason"] and letters[broken]["tenant"] == "acme"
    assert letters[broken]["source_topic"] == "intake.acme"
    eventually(
        lambda: any(u["request_id"].startswith("after-") for u in records(stack, "usage", {"acme"})), 30, "a row"
    )
