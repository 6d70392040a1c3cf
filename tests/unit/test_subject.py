"""End users as the lake names them."""

import hashlib

from streams import subject
from tests.unit.world import T0, completion, engine, request, rows


def test_a_user_is_a_hash_that_differs_by_tenant():
    assert subject.of("acme", "ann") == hashlib.sha256(b"acme\nann").hexdigest()[:32]
    assert subject.of("acme", "ann") != subject.of("globex", "ann")


def test_who_names_nobody_is_nobody():
    assert subject.of("acme", "") == "" == subject.of_body("acme", {}) == subject.of_body("acme", {"user": 7})


def test_the_newer_field_counts_first():
    both = {"user": "old", "safety_identifier": "new"}
    assert subject.of_body("acme", both) == subject.of("acme", "new")


def test_the_row_of_a_request_names_its_user_whatever_became_of_it():
    e = engine([{"on": "requests", "per": "minute", "max": 1}])
    asked = [request(f"text {n}", body={"user": "ann"}) for n in range(2)]
    for r in asked:
        e.step("Request", r, T0)
    e.step("Completion", completion(asked[0]), T0 + 5)
    assert [rows(e)[r["request_id"]]["status"] for r in asked] == ["completed", "refused"]
    assert {rows(e)[r["request_id"]]["user"] for r in asked} == {subject.of("acme", "ann")}
