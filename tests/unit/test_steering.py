from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas import config, config_check
from schemas.config import ConfigDocument
from streams import circuit, dispatch
from streams.steering import Ended, Steering, Tell, code_of, ended, rolled_back, same_trial
from tests.simulation.steering_world import CONFIG, document

T = 5_000_000
DEAD = Ended("good", "", "p1", 0, "unavailable", "pool_unavailable", 1)
PATIENCE_MS = 60_000
SILENT = DEAD._replace(code=circuit.SILENT, took_ms=PATIENCE_MS)
FAILED = Ended("new", "", "p3", 0, "failed", "answer_too_large", 1)


def changed(**more: Any) -> ConfigDocument:
    return config.document(config_check.parse({**CONFIG, **more}))


def steering(live: ConfigDocument | None = None) -> Steering:
    s = Steering()
    s.configure(live or document(), 0, 0)
    return s


def fail(s: Steering, e: Ended, count: int, at_ms: int = T) -> list[Tell]:
    return [tell for i in range(count) for tell in s.complete(e, at_ms + i)]


def test_all_tenants_are_told_once_of_a_dead_pool() -> None:
    s = steering()
    assert fail(s, DEAD, 4) == []
    (tell,) = fail(s, DEAD, 20, T + 4)
    assert (tell.pool, tell.is_open, tell.at_ms, tell.tenants) == ("p1", True, T + 4, ("acme", "globex"))
    assert s.open_pools() == {"p1": T + 4}
    assert s.advance(T + 5_003) == []
    (tell,) = s.advance(T + 5_004)
    assert (tell.pool, tell.is_open, tell.tenants) == ("p1", False, ("acme", "globex"))
    (tell,) = s.complete(DEAD._replace(outcome="ok", code=""), T + 6_000)
    assert (tell.is_open, tell.tenants) == (False, ())  # they use it already


def test_a_shadow_and_a_guard_count_for_their_pool_but_for_no_canary() -> None:
    s = steering()
    assert fail(s, FAILED._replace(shadow_of="good"), 50) == fail(s, FAILED._replace(step=-1), 50) == []
    assert s.due_back == {}
    assert fail(s, DEAD._replace(shadow_of="x"), 5)[0].is_open
    fail(s, FAILED, 20)
    assert s.due_back == {"chat": "20 of 20 requests of new within 60 s failed, more than 20%"}


def test_pools_and_models_that_nobody_configured_take_no_room() -> None:
    s = steering()
    for i in range(1_000):
        assert s.complete(DEAD._replace(pool=f"p{i + 10}", model=f"m{i}"), T + i) == []
        s.hear({"tenant": "acme", "pool": f"x{i}", "open": True, "at": T})
    assert set(s.circuits) == {"p1", "p2", "p3"}


def test_new_tenants_learn_of_everything_and_new_pools_are_told_to_all() -> None:
    s = steering()
    opened_at = fail(s, DEAD, 5)[0].at_ms
    tells = s.configure(document(("acme", "globex", "new")), T, T + 9)
    assert {(t.pool, t.is_open, t.tenants) for t in tells} == {
        ("p1", True, ("new",)), ("p2", False, ("new",)), ("p3", False, ("new",))
    }  # fmt: skip
    assert {t.at_ms for t in tells if t.is_open} == {opened_at}
    again = s.configure(document(("acme", "globex", "new")), T, T + 10)
    assert again == []
    (tell,) = s.configure(changed(pools={**CONFIG["pools"], "p1": {"engine": "echo", "concurrency": 9}}), T, T + 11)
    assert (tell.pool, tell.is_open) == ("p1", False), "what was changed may have been mended"
    assert s.open_pools() == {}
    s.hear({"tenant": "acme", "pool": "p1", "open": True, "at": opened_at})  # our own words come back late
    assert s.open_pools() == {}


def test_everybody_is_told_everything_at_the_start() -> None:
    s = Steering()
    assert s.tell_all(T) == []
    s.configure(document(), 0, 0)
    s.hear({"tenant": "acme", "pool": "p2", "open": True, "at": T})
    assert {(t.pool, t.is_open, t.tenants) for t in s.tell_all(T + 5)} == {
        (pool, pool == "p2", ("acme", "globex")) for pool in ("p1", "p2", "p3")
    }
    assert [t.pool for t in s.advance(T + 5_000)] == ["p2"], "and it is tried in its turn"


def test_a_canary_is_due_back_until_the_configuration_shows_that_it_went() -> None:
    s = steering()
    fail(s, FAILED, 20)
    why = s.due_back["chat"]
    s.configure(document(("acme",)), T, T)  # something else changed: still due
    assert s.due_back == {"chat": why}
    gone = config.without_share(document(("acme",)), "chat", why)
    s.configure(gone, T, T)
    assert (s.due_back, rolled_back(gone)) == ({}, {"chat": why})
    fail(s, FAILED, 100)
    assert s.due_back == {}
    s.configure(document(), T + 50_000, T + 50_000)
    fail(s, FAILED, 19, T + 50_010)
    assert s.due_back == {}
    fail(s, FAILED, 1, T + 50_100)
    assert s.due_back != {}


def test_the_pool_of_a_canary_that_starts_anew_is_tried_at_once() -> None:
    s = steering(config.without_share(document(), "chat", "x"))
    fail(s, DEAD._replace(model="new", pool="p3"), 5)
    (tell,) = s.configure(document(), T, T + 100)
    assert (tell.pool, tell.is_open, tell.tenants) == ("p3", False, ("acme", "globex"))


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ({}, True),
        ({"tenants": {"other": {}}}, True),
        ({"pools": {**CONFIG["pools"], "p1": {"engine": "echo", "concurrency": 9}}}, True),
        ({"pools": {**CONFIG["pools"], "p3": {"engine": "echo", "concurrency": 9}}}, False),
        ({"models": {**CONFIG["models"], "new": {"route": ["p2"]}}}, False),
        ({"models": {"good": {"route": ["p1"]}, "new": {"route": ["p3", "p2"]}}}, False),
    ],
)
def test_a_verdict_holds_for_the_canary_that_was_judged(more: dict[str, Any], same: bool) -> None:
    assert same_trial(changed(**more), document(), "chat") == same
    assert not same_trial(config.without_share(changed(), "chat", "x"), document(), "chat")


def test_a_canary_without_weight_is_not_watched() -> None:
    models = msgspec.to_builtins(document().models)
    models["chat"]["split"][1]["weight"] = 0
    s = steering(changed(models=models))
    fail(s, FAILED, 100)
    assert s.due_back == {}


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b'{"error": "x"}', b'{"error": {"code": 5}}', b'{"error": null}'])
def test_a_body_without_a_code_has_none(body: bytes) -> None:
    assert code_of(body) == ""


def test_the_answer_itself_is_not_kept() -> None:
    c: Any = {
        "model": "m",
        "shadow_of": "",
        "pool": "p",
        "step": 0,
        "outcome": "ok",
        "body": b'{"error": {"code": "x"}}',
    }
    assert ended({**c, "started_at": 90, "finished_at": 100}) == Ended("m", "", "p", 0, "ok", "", 10)
    late: Any = {**c, "outcome": "failed", "started_at": 100, "finished_at": 90}
    assert ended(late) == Ended("m", "", "p", 0, "failed", "x", 0)


def test_a_pool_that_nobody_serves_any_more_is_avoided() -> None:
    s = steering()
    assert s.complete(DEAD._replace(outcome="ok", code=""), T) == []
    last = T + PATIENCE_MS
    assert fail(s, SILENT, circuit.IN_A_ROW, last) == [], "what was sent first was sent while it was alive"
    (tell,) = fail(s, SILENT, circuit.IN_A_ROW, last + 1)
    assert (tell.pool, tell.is_open) == ("p1", True) and "pool_silent" in tell.what
    on_trial = s.advance(last + 60_000)[0]
    assert not on_trial.is_open
    assert fail(s, SILENT, 9, last + 60_001) == [], "they were sent before the trial"
    assert s.complete(SILENT, last + 60_000 + PATIENCE_MS)[0].is_open


@pytest.mark.parametrize("end", [("ok", ""), ("unavailable", circuit.BUSY), ("cancelled", "request_cancelled")])
def test_a_pool_that_has_too_much_to_do_is_not_silent(end: tuple[str, str]) -> None:
    s = steering()
    for i in range(100):
        assert s.complete(DEAD._replace(outcome=end[0], code=end[1]), T + 1_000 * i) == []
        assert fail(s, SILENT, 9, T + 1_000 * i + 1) == []


def test_a_pool_is_silent_as_admission_says_it() -> None:
    o: Any = {"request_id": "r", "step": 0, "model": "good"}
    record: Any = dispatch.given_up("acme", o, "p1", T, T + PATIENCE_MS).record
    assert ended(record) == SILENT
