"""The engine `transformers` with the real small model, on whatever device there is, beside plain `model.generate`."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from schemas.config import Pool
from workers.engines import Final, Job, Piece, Setting
from workers.engines.transformers_engine import Transformers
from workers.outcome import Fault

pytestmark = pytest.mark.gpu
MODEL = "smollm2-135m"
CONTEXT = 192
FRANCE = "What is the capital of France?"
STORY = "Tell me a long story about a river."


@asynccontextmanager
async def opened(precision: str = "f32", slots: int = 4) -> AsyncIterator[Transformers]:
    pool = Pool(engine="transformers", model=MODEL, concurrency=slots, precision=precision)
    engine = Transformers(Setting("gpu", pool, CONTEXT))
    try:
        yield engine
    finally:
        await engine.close()


def run(test: Callable[[Transformers], Awaitable[None]], precision: str = "f32") -> None:
    async def whole() -> None:
        async with opened(precision) as engine:
            await test(engine)

    asyncio.run(whole())


def job(text: str, most: int = 24, limit: int = 0, **body: Any) -> Job:
    messages = [{"role": "user", "content": text}]
    asked = {"messages": messages, "max_tokens": most, "temperature": 0, **body}
    return Job("r", "/v1/chat/completions", MODEL, asked, True, limit, 0)


async def answered(engine: Transformers, asked: Job) -> tuple[str, str, list[Piece], Final]:
    """(text, finish_reason, pieces, the end)."""
    parts = [part async for part in engine.generate(asked)]
    pieces, final = [p for p in parts if isinstance(p, Piece)], parts[-1]
    assert isinstance(final, Final)
    choices = [p.data["choices"][0] for p in pieces]
    return "".join(c["delta"].get("content", "") for c in choices), choices[-1]["finish_reason"], pieces, final


def plain(engine: Transformers, asked: Job) -> list[int]:
    """What the library says without batching; its manager must have stopped, as both write the attention's mode."""
    torch = importlib.import_module("torch")
    prompt = torch.tensor([engine._tokens(asked)]).to(engine._model.device)
    with torch.no_grad():
        tokens = engine._model.generate(prompt, do_sample=False, max_new_tokens=asked.output_limit())
    return [int(t) for t in tokens[0][prompt.shape[1] :]]


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_says_what_plain_generation_says(precision: str) -> None:
    asked = [job(FRANCE), job("Name three colours.", 20), job("Write: é 🦀 日本語.", 24), job(STORY, 40)]

    async def test(engine: Transformers) -> None:
        said = await asyncio.gather(*(answered(engine, j) for j in asked))
        engine._stop()
        same = 0
        for one, (text, reason, pieces, final) in zip(asked, said, strict=True):
            tokens = plain(engine, one)
            same += text == engine._tokenizer.decode(tokens, skip_special_tokens=True)
            counts = (len(engine._tokens(one)), final.counts.output_tokens)
            assert (final.counts.input_tokens, final.body["usage"]["completion_tokens"]) == counts
            assert len(pieces) > 3 and (reason == "length") == (final.counts.output_tokens == one.output_limit())
        assert "Paris" in said[0][0] and engine.precision == precision
        # With less than f32, sums in another order may choose another token where two are as good.
        assert same == len(asked) if precision == "f32" else same >= 1

    run(test, precision)


def test_stops_at_a_stop_text_and_gives_the_slot_back() -> None:
    async def test(engine: Transformers) -> None:
        whole, _, _, _ = await answered(engine, job(STORY, 40))
        stop = whole[30:33]
        text, reason, _, final = await answered(engine, job(STORY, 40, stop=[stop, "\x00"]))
        assert (text, reason) == (whole[: whole.find(stop)], "stop")
        assert 0 < final.counts.output_tokens < 40
        await idle(engine)

    run(test)


async def idle(engine: Transformers) -> None:
    """Wait until the manager runs nothing."""
    async with asyncio.timeout(5):
        while engine._manager.batch_processor.scheduler.has_pending_requests():
            await asyncio.sleep(0.01)


def test_a_job_that_is_closed_ends_in_mid_generation_and_its_neighbour_goes_on() -> None:
    async def test(engine: Transformers) -> None:
        alone, *_ = await answered(engine, job(STORY, 60))
        neighbour = asyncio.create_task(answered(engine, job(STORY, 60)))
        async with aclosing(engine.generate(job("Count to a hundred.", 120))) as parts:  # type: ignore[type-var]
            async for part in parts:
                if part.counts.output_tokens >= 5:
                    break
        began, steps = time.monotonic(), engine._manager.current_batch
        assert (await neighbour)[0] == alone
        await idle(engine)
        assert engine._manager.current_batch - steps < 70 and time.monotonic() - began < 30
        assert not engine._manager.output_router.result_handlers

    run(test)


def test_prompts_that_do_not_fit_are_the_callers_fault() -> None:
    async def test(engine: Transformers) -> None:
        for asked in (job("word " * 300), job("word " * 40, limit=20)):
            with pytest.raises(Fault) as caught:
                await answered(engine, asked)
            assert (caught.value.refusal.outcome, caught.value.refusal.code) == ("invalid", "context_length_exceeded")
        _, reason, _, final = await answered(engine, job(STORY, 10_000))
        assert sum(final.counts[:2]) <= engine._context and reason in ("stop", "length")

    run(test)


def test_without_memory_the_pool_is_unavailable_and_the_next_job_finds_another_manager() -> None:
    async def test(engine: Transformers) -> None:
        before, *_ = await answered(engine, job(FRANCE))
        step = engine._model.forward

        def broken(*_: Any, **__: Any) -> None:
            raise importlib.import_module("torch").OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

        engine._model.forward = broken
        with pytest.raises(Fault) as caught:
            await answered(engine, job("Another prompt."))
        refusal = caught.value.refusal
        assert (refusal.outcome, refusal.message) == ("unavailable", "The engine ran out of memory.")
        engine._model.forward = step
        assert (await answered(engine, job(FRANCE)))[0] == before

    run(test)


def test_completions_and_sampling() -> None:
    async def test(engine: Transformers) -> None:
        body = {"prompt": "Once upon a time", "max_tokens": 12, "temperature": 0.9, "top_p": 0.8, "top_k": 20}
        asked = Job("r", "/v1/completions", MODEL, body, True, 0, 0)
        parts = [part async for part in engine.generate(asked)]
        assert "".join(p.data["choices"][0]["text"] for p in parts if isinstance(p, Piece))
        assert 0 < parts[-1].counts.output_tokens <= 12

    run(test)
