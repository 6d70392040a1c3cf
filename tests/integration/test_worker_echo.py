"""A worker on a real broker: the echo engine, streams, refusals, cancellation, moderation, broken records."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from parts import Parts
from worker_world import Desk, body, content, worker

from schemas import config, config_check
from schemas.wire import Codec
from workers.clock import now_ms

POOLS = {
    "echo": {"engine": "echo", "concurrency": 64},
    "slow": {"engine": "echo", "concurrency": 8, "first_token_ms": 10, "token_ms": 20},
    "stuck": {"engine": "echo", "concurrency": 8, "first_token_ms": 60_000, "first_token_timeout_ms": 300},
}
MODELS = {"echo": {"route": ["echo"]}, "slow": {"route": ["slow"]}, "stuck": {"route": ["stuck"]}}
RULES = [
    {"id": "phrase", "match": "forbidden fruit", "action": "block", "message": "No."},
    {"id": "card", "detect": "credit_card", "action": "mask"},
]
RULES_HASH = config.rules_hash(config_check.parse({"rule_sets": {"r": RULES}}).rule_sets["r"])


@pytest.fixture(scope="module")
def desk(parts: Parts, kafka: str, codec: Codec) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS, {"r": RULES})
    with worker(parts):
        held.done(held.ask("warm up"), timeout_s=40)
        yield held


def test_answers_a_chat_completion(desk: Desk) -> None:
    request_id = desk.ask("one two  three four", body={"max_tokens": 9}, max_output_tokens=9)
    completion = desk.done(request_id)
    assert completion["outcome"] == "ok" and completion["http_status"] == 200
    assert completion["worker"] == "worker-1" and completion["engine"] == "echo"
    answer = body(completion)
    assert answer["id"] == f"chatcmpl-{request_id}" and answer["model"] == "echo"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "one two  three four"}
    assert answer["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


def test_cuts_to_the_limit_that_was_reserved(desk: Desk) -> None:
    completion = desk.done(desk.ask("a b c d", body={"max_tokens": 3}, max_output_tokens=2))
    assert content(completion) == "a b" and completion["output_tokens"] == 2
    assert body(completion)["choices"][0]["finish_reason"] == "length"


def test_streams_words_after_started_and_before_the_completion(desk: Desk) -> None:
    request_id = desk.ask("one two  three", stream=True, announce=True)
    completion = desk.done(request_id)
    desk.read(lambda: len(desk.chunks[request_id]) == 3, "chunks")
    assert desk.shown(request_id) == content(completion) == "one two  three"
    assert [c["sequence"] for c in desk.chunks[request_id]] == [0, 1, 2]
    attempts = {r["attempt"] for r in (*desk.chunks[request_id], *desk.started[request_id], completion)}
    assert attempts == {completion["attempt"]} and completion["streamed"]
    assert completion["started_at"] <= desk.started[request_id][0]["started_at"] <= completion["finished_at"]


def test_refuses_what_is_late(desk: Desk) -> None:
    late = desk.done(desk.ask("x", start_by=now_ms() - 1))
    assert (late["outcome"], late["http_status"], late["output_tokens"]) == ("unavailable", 503, 0)
    expired = desk.done(desk.ask("x", deadline=now_ms() - 1))
    assert (expired["outcome"], expired["output_tokens"]) == ("expired", 0)


def test_refuses_what_is_too_long(desk: Desk) -> None:
    completion = desk.done(desk.ask("a b c", max_input_tokens=2))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", 400)
    assert body(completion)["error"]["code"] == "context_length_exceeded"


def test_refuses_an_endpoint_it_does_not_serve(desk: Desk) -> None:
    completion = desk.done(desk.work({"input": "x"}, endpoint="/v1/embeddings"))
    assert (completion["outcome"], completion["http_status"]) == ("invalid", 400)


def test_cancels_a_running_answer_within_a_second(desk: Desk) -> None:
    request_id = desk.ask(" ".join(["word"] * 500), pool="slow", stream=True)
    desk.read(lambda: len(desk.chunks[request_id]) >= 5, "chunks")
    at = time.monotonic()
    desk.cancel(request_id)
    completion = desk.done(request_id)
    assert time.monotonic() - at < 1
    assert completion["outcome"] == "cancelled" and completion["input_tokens"] == 500
    assert 5 <= completion["output_tokens"] == len(desk.chunks[request_id]) < 400


def test_a_cancelled_request_never_starts(desk: Desk) -> None:
    busy = [desk.ask(" ".join(["word"] * 200), pool="slow", lane="batch", announce=True) for _ in range(12)]
    desk.read(lambda: sum(i in desk.started for i in busy) >= 6, "all slots of batch taken")
    waiting = desk.ask("a b c", pool="slow", lane="batch")
    desk.cancel(waiting)
    completion = desk.done(waiting, timeout_s=2)
    assert (completion["outcome"], completion["input_tokens"], completion["output_tokens"]) == ("cancelled", 0, 0)
    assert not any(i in desk.completions for i in busy)
    for request_id in busy:
        desk.cancel(request_id)
    desk.done(*busy)
    assert {desk.completions[i][0]["outcome"] for i in busy} == {"cancelled"}


def test_gives_up_where_the_first_token_does_not_come(desk: Desk) -> None:
    completion = desk.done(desk.ask("x", pool="stuck", announce=True))
    assert (completion["outcome"], completion["http_status"]) == ("unavailable", 503)


def test_masks_and_blocks_whole_answers(desk: Desk) -> None:
    masked = desk.done(desk.ask("my card 4111 1111 1111 1111 ok", rules=RULES_HASH))
    assert "4111" not in content(masked) and masked["findings"] == [{"rule": "card", "action": "mask", "matches": 1}]
    blocked = desk.done(desk.ask("a FORBIDDEN  fruit", rules=RULES_HASH))
    assert blocked["outcome"] == "blocked" and content(blocked) == "No." and blocked["output_tokens"] == 3
    assert body(blocked)["model"] == "from-security-guard" and blocked["findings"][0]["rule"] == "phrase"


def test_blocks_a_phrase_across_chunks(desk: Desk) -> None:
    request_id = desk.ask("take this forbidden fruit home", pool="slow", stream=True, rules=RULES_HASH)
    completion = desk.done(request_id)
    assert completion["outcome"] == "blocked" and completion["output_tokens"] == 4
    assert "forbidden" not in desk.shown(request_id) and desk.shown(request_id).startswith("take")


def test_masks_across_chunks_what_the_body_masks(desk: Desk) -> None:
    request_id = desk.ask("card 4111 1111 1111 1111 ok", pool="slow", stream=True, rules=RULES_HASH)
    completion = desk.done(request_id)
    desk.read(lambda: desk.shown(request_id) == content(completion), "all chunks")
    assert "4111" not in content(completion) and content(completion).endswith("ok")


def test_fails_closed_on_unknown_rules(desk: Desk) -> None:
    request_id = desk.ask("secret text", rules="0123456789abcdef", stream=True)
    completion = desk.done(request_id)
    assert (completion["outcome"], completion["http_status"]) == ("failed", 500)
    assert not desk.chunks[request_id] and b"secret" not in completion["body"]


def test_a_broken_record_becomes_a_dead_letter_and_stops_nothing(desk: Desk) -> None:
    desk.raw("work.echo.interactive", b"\x00\x00\x00\x00\x01broken")
    desk.done(desk.ask("after"))
    desk.read(lambda: bool(desk.dead), "dead letter")
    assert desk.dead[0]["value"] == b"\x00\x00\x00\x00\x01broken"


def test_a_repeated_record_runs_once(desk: Desk) -> None:
    desk.ask("once", request_id="same")
    desk.ask("once", request_id="same")
    desk.done("same", desk.ask("later"))
    desk.ask("once", request_id="same")
    desk.done(desk.ask("still later"))
    assert len(desk.completions["same"]) == 1


def test_a_new_pool_is_served_without_a_restart(desk: Desk) -> None:
    pools = {**POOLS, "fresh": {"engine": "echo"}}
    desk.configure(pools, {**MODELS, "fresh": {"route": ["fresh"]}}, {"r": RULES})
    at = time.monotonic()
    assert content(desk.done(desk.ask("hello", pool="fresh"))) == "hello"
    assert time.monotonic() - at < 5
