"""Answers from engines in memory: echo's definition, endings and their records."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config import Pool, Rule
from schemas.config import document as document_of
from schemas.config_check import parse
from schemas.wire import Codec
from streams.moderation import Moderator
from workers import outcome
from workers.answer import Progress, answer
from workers.engines import Final, Job, Piece
from workers.engines.echo import Echo, cut, pieces
from workers.outcome import Counts, Fault, Refusal
from workers.screen import Screen
from workers.station import settings

POOL = Pool("echo")


def work(**fields: Any) -> Any:
    base = dict.fromkeys(("tenant", "pool", "rules", "batch_id", "shadow_of"), "")
    body = fields.pop("body", {"messages": [{"role": "user", "content": "a b"}]})
    return {
        **base,
        **{"request_id": "r1", "lane": "batch", "step": 0, "endpoint": "/v1/chat/completions", "model": "m", "line": 0},
        **{"body": orjson.dumps(body), "stream": False, "reply_to": "replies", "max_input_tokens": 0},
        **{"max_output_tokens": 0, "admitted_at": 0, "start_by": 0, "deadline": 0, "announce": False},
        **fields,
    }


class Wire:
    """A channel that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def announce(self) -> None:
        self.sent.append("started")

    async def send(self, chunk: dict[str, Any]) -> None:
        self.sent.append(chunk["choices"][0]["delta"]["content"])


class Scripted:
    """An engine that does as it is told."""

    kind, model_version, precision, secret = "echo", "", "", ""

    def __init__(self, *script: Any) -> None:
        self._script = script

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        for step in self._script:
            if isinstance(step, Exception):
                raise step
            if step == "wait":
                await asyncio.sleep(60)
            yield step


def give(asked: Any, engine: Any, pool: Pool = POOL, seen: Progress | None = None) -> tuple[Any, list[Any]]:
    wire = Wire()
    return asyncio.run(answer(asked, pool, engine, Screen(None), wire, seen or Progress())), wire.sent


def piece(text: str, tokens: int) -> Piece:
    return Piece({"choices": [{"index": 0, "delta": {"content": text}}]}, Counts(3, tokens))


@given(st.text(max_size=60), st.integers(0, 8))
def test_echo_is_cut_to_words_and_its_pieces_are_the_content(text: str, limit: int) -> None:
    content, words, reason = cut(text, limit)
    assert "".join(pieces(content)) == content and len(content.split()) == words
    assert (reason == "length") == bool(limit and len(text.split()) > limit)
    if reason == "stop":
        assert content == text


def test_echo_repeats_the_last_user_message_and_counts_all_words() -> None:
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": None},
        {"role": "user", "content": [{"type": "text", "text": "one two"}, {"type": "image_url"}]},
        {"role": "assistant", "content": "three"},
    ]
    ending, _ = give(work(body={"messages": messages}), Echo(POOL))
    body = orjson.loads(ending.body)
    assert body["choices"][0]["message"]["content"] == "one two" and body["object"] == "chat.completion"
    assert ending.counts == Counts(6, 2)


@pytest.mark.parametrize(("text", "content"), [("", ""), ("  lead  trail ", "  lead  trail ")])
def test_echo_streams_what_it_answers_whole(text: str, content: str) -> None:
    asked = {"body": {"messages": [{"role": "user", "content": text}]}}
    whole, streamed = give(work(**asked), Echo(POOL))[0], give(work(**asked, stream=True), Echo(POOL))
    bodies = [orjson.loads(e.body)["choices"] for e in (whole, streamed[0])]
    assert bodies[0] == bodies[1] and bodies[0][0]["message"]["content"] == content
    assert "".join(streamed[1]) == content


def test_started_comes_before_the_first_chunk_and_only_when_asked() -> None:
    assert give(work(stream=True, announce=True), Echo(POOL))[1] == ["started", "a", " b"]
    assert give(work(stream=True), Echo(POOL))[1] == ["a", " b"]


def test_legacy_completions() -> None:
    ending, _ = give(work(endpoint="/v1/completions", body={"prompt": "x y z", "max_tokens": 2}), Echo(POOL))
    body = orjson.loads(ending.body)
    assert body["object"] == "text_completion" and body["choices"][0]["text"] == "x y"


def test_a_fault_before_a_chunk_may_be_retried_and_after_it_is_an_interruption() -> None:
    fault = outcome.unavailable("gone")
    assert give(work(stream=True), Scripted(fault))[0].outcome == "unavailable"
    ending, _ = give(work(stream=True), Scripted(piece("x", 1), fault))
    assert (ending.outcome, ending.http_status, ending.counts) == ("interrupted", 502, Counts(3, 1))
    assert give(work(), Scripted(piece("x", 1), fault))[0].outcome == "unavailable"


def test_an_unknown_exception_is_a_failure_that_says_nothing() -> None:
    ending, _ = give(work(), Scripted(RuntimeError("secret detail")))
    assert ending.outcome == "failed" and b"secret" not in ending.body


def test_a_first_token_that_does_not_come_and_an_answer_that_does_not_end() -> None:
    impatient = Pool("echo", first_token_timeout_ms=10, timeout_ms=30)
    assert give(work(announce=True), Scripted("wait"), impatient)[0].outcome == "unavailable"
    ending, _ = give(work(stream=True), Scripted(piece("x", 1), "wait"), impatient)
    assert ending.outcome == "interrupted" and ending.streamed


def test_a_stop_from_outside_ends_with_the_true_counts() -> None:
    async def case() -> Any:
        seen = Progress()
        task = asyncio.create_task(answer(work(), POOL, Scripted(piece("x", 7), "wait"), Screen(None), Wire(), seen))
        while not seen.first_token_at:
            await asyncio.sleep(0)
        seen.stop_reason = "cancelled"
        task.cancel()
        return await task

    ending = asyncio.run(case())
    assert (ending.outcome, ending.counts) == ("cancelled", Counts(3, 7))


@pytest.mark.parametrize("body", [b"[]", b"{", b"1"])
def test_a_body_that_is_no_object_is_the_callers_fault(body: bytes) -> None:
    asked = work()
    asked["body"] = body
    assert give(asked, Echo(POOL))[0].outcome == "invalid"


def test_what_must_not_start() -> None:
    assert outcome.before(work(start_by=10, deadline=20), 10, None) is None
    late = [outcome.before(work(start_by=10, deadline=20), now, None) for now in (11, 21)]
    assert [r.outcome for r in late if r] == ["unavailable", "expired"]
    stopped = [outcome.before(work(), 1, reason) for reason in ("cancelled", "expired", "interrupted")]
    assert [(r.outcome, r.http_status) for r in stopped if r] == [
        ("cancelled", 499),
        ("expired", 504),
        ("interrupted", 502),
    ]


def test_every_ending_fits_its_record() -> None:
    codec = Codec.offline()
    endings = [
        outcome.refused(Refusal("failed", 500, "x", "y")),
        outcome.blocked("No.", "r1", Counts(1, 2), findings=({"rule": "r", "action": "block", "matches": 1},)),
        outcome.Ending("ok", 200, b"x" * (outcome.MAX_BODY_BYTES + 1), Counts(1, 2)),
    ]
    records: list[Any] = [
        outcome.completion(work(), e, attempt="a", worker="w", engine=("echo", "", ""), started=1, finished=2)
        for e in endings
    ]
    assert [codec.decode(codec.encode("Completion", r))[1] for r in records] == records
    assert [r["outcome"] for r in records] == ["failed", "blocked", "failed"]
    assert records[2]["output_tokens"] == 2 and records[0]["first_token_at"] == 2


def test_an_upstreams_refusal_keeps_its_body() -> None:
    ending, _ = give(work(), Scripted(Fault(Refusal("invalid", 422, "m", "c", b'{"error":{}}'))))
    assert (ending.outcome, ending.http_status, ending.body) == ("invalid", 422, b'{"error":{}}')


def test_an_engines_context_fits_the_largest_model_of_its_pool() -> None:
    models = {"a": {"route": ["p"], "max_input_tokens": 100, "max_output_tokens": 10}}
    models["b"] = {"route": ["q", "p"], "max_input_tokens": 500, "max_output_tokens": 20}
    pools = {"p": {"engine": "echo"}, "q": {"engine": "echo"}, "idle": {"engine": "echo"}}
    made = settings(document_of(parse({"pools": pools, "models": models})))
    assert (made["p"].context_tokens, made["q"].context_tokens) == (520, 520)
    assert made["idle"].context_tokens == 4_096


class Broken:
    """Rules whose check fails, at once or after the first piece."""

    def __init__(self, after: int) -> None:
        self._left = after

    def applies(self, stage: str) -> bool:
        return True

    def stage(self, stage: str) -> Any:
        return self

    @property
    def rules(self) -> Any:
        if self._left <= 0:
            raise RuntimeError("the check broke")
        self._left -= 1
        return ()

    def check(self, text: str, stage: str) -> Any:
        raise RuntimeError("the check broke")


@pytest.mark.parametrize("fails_after", [0, 1])
def test_a_check_that_cannot_run_delivers_nothing_more(fails_after: int) -> None:
    wire, asked = Wire(), work(stream=True)
    engine = Scripted(piece("one ", 1), piece("two ", 2), piece("three", 3), Final({}, Counts(3, 3)))
    screen = Screen(Broken(fails_after))  # type: ignore[arg-type]
    ending = asyncio.run(answer(asked, POOL, engine, screen, wire, Progress()))
    assert ending.outcome == ("interrupted" if fails_after else "failed")
    assert wire.sent == ["one "][:fails_after]
    assert b"one" not in ending.body and b"two" not in ending.body


def test_a_whole_answer_whose_check_cannot_run_is_not_delivered() -> None:
    body = {"choices": [{"index": 0, "message": {"content": "the answer"}}]}
    screen = Screen(Broken(9))  # type: ignore[arg-type]
    ending = asyncio.run(answer(work(), POOL, Scripted(Final(body, Counts(3, 3))), screen, Wire(), Progress()))
    assert ending.outcome == "failed" and b"the answer" not in ending.body


def test_what_would_be_held_back_without_end_fails_and_is_not_shown() -> None:
    screen = Screen(Moderator((Rule(id="x", match="ab"),)))
    engine = Scripted(*[piece("a" if i == 0 else "\u200b" * 5000, i) for i in range(20)], Final({}, Counts(3, 20)))
    wire = Wire()
    ending = asyncio.run(answer(work(stream=True), POOL, engine, screen, wire, Progress()))
    assert ending.outcome == "failed" and wire.sent == []
