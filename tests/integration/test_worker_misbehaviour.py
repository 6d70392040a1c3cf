"""A worker against a server that answers garbage, hangs, breaks off, lies, or refuses: each has its class and outcome.

`unavailable` goes to the next pool of the route, `invalid` to the caller, `interrupted` ends what was begun.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from misbehaviour import DOES, SAYS, Misbehaving
from parts import Parts
from worker_world import Desk, body, content, worker

from schemas.wire import Codec

COMMON = {"pool": "bad", "model": "bad"}
PATIENCE_MS = 1_000
UNAVAILABLE = [
    *("not json", "another shape", "a list", "no choices", "wrong types", "deep", "not http", "long header"),
    *("short body", "nothing", "page", "plain events", "not loaded", "no credit", "busy for an hour", "broken"),
    *("error in 200", "hang", "stream: not json", "stream: wrong types", "stream: odd logprobs", "stream: empty"),
    *("stream: only done", "stream: huge line", "stream: endless line", "stream: hang", "stream: only a role"),
]
INVALID = {"too long": 400, "detail": 422, "stream: error": 400}
# What was shown before it broke off, and how many tokens that proves.
INTERRUPTED = {
    "stream: cut": ("one two", 2),
    "stream: late error": ("one ", 1),
    "stream: late garbage": ("one ", 1),
    "stream: hang midway": ("one ", 1),
}
ANSWERED = {"good", "odd usage", "stream: no usage", "stream: open after the end", "busy for a moment", "stale"}


@pytest.fixture(scope="module")
def server() -> Iterator[Misbehaving]:
    held = Misbehaving()
    yield held
    held.stop()


@pytest.fixture(scope="module")
def desk(kafka: str, codec: Codec, parts: Parts, server: Misbehaving) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    pool = {"engine": "openai", "base_url": server.url, "first_token_timeout_ms": PATIENCE_MS}
    held.configure({"bad": pool}, {"bad": {"route": ["bad"]}})
    with worker(parts):
        held.done(held.ask("good", **COMMON), timeout_s=40)
        yield held


def ask(desk: Desk, case: str) -> str:
    """Publish the case; in a stream if it is one."""
    return desk.ask(case, stream=case.startswith("stream"), announce=True, **COMMON)


def test_every_misbehaviour_is_looked_at() -> None:
    looked_at = {*UNAVAILABLE, *INVALID, *INTERRUPTED, *ANSWERED}
    assert looked_at == SAYS.keys() | DOES.keys()


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_the_next_pool_may_do_better(desk: Desk, case: str) -> None:
    completion = desk.done(ask(desk, case))
    assert (completion["outcome"], completion["http_status"]) == ("unavailable", 503)
    assert not completion["streamed"] and completion["input_tokens"] == completion["output_tokens"] == 0
    assert body(completion)["error"]["code"] in ("pool_unavailable", "pool_timeout")


@pytest.mark.parametrize("case", INVALID)
def test_the_callers_fault_is_told_to_the_caller(desk: Desk, case: str) -> None:
    completion = desk.done(ask(desk, case))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", INVALID[case])
    assert body(completion)["error"]["message"]


@pytest.mark.parametrize("case", INTERRUPTED)
def test_what_breaks_off_after_a_token_is_interrupted(desk: Desk, case: str) -> None:
    request_id = ask(desk, case)
    completion = desk.done(request_id)
    shown, tokens = INTERRUPTED[case]
    assert (completion["outcome"], completion["http_status"]) == ("interrupted", 502)
    assert (desk.shown(request_id), completion["output_tokens"]) == (shown, tokens)


def test_a_silence_frees_the_slot_and_the_connection(desk: Desk, server: Misbehaving) -> None:
    server.left.clear()
    completion = desk.done(ask(desk, "stream: hang midway"))
    assert completion["finished_at"] - completion["first_token_at"] < 3 * PATIENCE_MS
    assert server.left.wait(5)


def test_an_upstream_that_keeps_its_stream_open_has_answered_all_the_same(desk: Desk) -> None:
    completion = desk.done(ask(desk, "stream: open after the end"))
    assert (content(completion), completion["output_tokens"]) == ("fine", 2)
    assert completion["finished_at"] - completion["started_at"] < PATIENCE_MS


@pytest.mark.parametrize("case", ["odd usage", "stream: no usage"])
def test_tokens_that_nobody_counted_are_bounded(desk: Desk, case: str) -> None:
    limits = {"max_input_tokens": 12, "max_output_tokens": 3}
    completion = desk.done(desk.ask(case, stream=case.startswith("stream"), **COMMON, **limits))
    assert (completion["outcome"], completion["input_tokens"], completion["output_tokens"]) == ("ok", 12, 3)
    assert body(completion)["usage"]["estimated"] is True


@pytest.mark.parametrize("case", ["busy for a moment", "stale"])
def test_what_passes_in_a_moment_is_tried_again_here(desk: Desk, server: Misbehaving, case: str) -> None:
    completion = desk.done(ask(desk, case))
    assert (completion["outcome"], server.calls[case], content(completion)) == ("ok", 2, "fine")


@pytest.mark.parametrize("case", ["broken", "busy for an hour", "not loaded"])
def test_what_does_not_pass_is_asked_once(desk: Desk, server: Misbehaving, case: str) -> None:
    before = server.calls[case]
    assert desk.done(ask(desk, case))["outcome"] == "unavailable"
    assert server.calls[case] == before + 1
