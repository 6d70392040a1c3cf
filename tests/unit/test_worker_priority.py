"""Lanes told to an engine that orders by them, and what a pool's configuration may say of protection."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from schemas.config import ConfigError, Pool
from schemas.config_check import parse
from schemas.topics import LANES
from workers.buffer import Buffer
from workers.engines import Job, Setting, can_stop
from workers.engines.openai import OpenAI


def sent(pool: Pool, lane: str, **body: Any) -> dict[str, Any]:
    """The body that an upstream is sent."""

    async def request() -> bytes:
        job = Job("r", "/v1/chat/completions", "m", {"messages": [], **body}, False, 0, 0, lane)
        return OpenAI(Setting("p", pool, 0), {})._request(job)

    return dict(orjson.loads(asyncio.run(request())))


@pytest.mark.parametrize(("kind", "first_is"), [("vllm", min), ("sglang", max)])
def test_the_engine_is_told_the_lane_in_its_own_order(kind: Any, first_is: Any) -> None:
    pool = Pool("openai", base_url="http://x/v1", priority=kind)
    told = {lane: sent(pool, lane, priority=-5)["priority"] for lane in LANES}
    assert first_is(told, key=told.__getitem__) == "interactive"
    assert told["standard"] == sorted(told.values())[1] and len(set(told.values())) == 3


def test_a_priority_that_a_caller_sends_never_leaves() -> None:
    assert "priority" not in sent(Pool("openai", base_url="http://x/v1"), "batch", priority=-5)


def test_what_may_be_stopped() -> None:
    assert can_stop(Pool("llama")) and can_stop(Pool("echo")) and can_stop(Pool("openai", preempt=True))
    assert not can_stop(Pool("openai")) and not can_stop(Pool("openai", priority="vllm"))


@pytest.mark.parametrize(
    "pool",
    [
        {"engine": "echo", "priority": "vllm"},
        {"engine": "llama", "preempt": True},
        {"engine": "openai", "base_url": "http://x/v1", "priority": "sglang", "preempt": True},
        {"engine": "openai", "base_url": "http://x/v1", "priority": "other"},
        {"engine": "echo", "protection": "some"},
    ],
)
def test_settings_that_mean_nothing_are_refused(pool: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        parse({"pools": {"p": pool}})


def test_what_is_put_back_goes_first_and_counts() -> None:
    buffer: Buffer[str] = Buffer(high=3, low=1)
    buffer.put("a", 1)
    buffer.put("b", 1)
    first = buffer.take()
    buffer.put("c", 1)
    buffer.put_back(first, 1)
    assert buffer.paused and len(buffer) == 3
    assert [buffer.take() for _ in range(2)] == ["a", "b"] and not buffer.paused
    buffer.put_back("b", 1)
    buffer.keep(lambda item: item != "b")
    assert [buffer.take() for _ in range(len(buffer))] == ["c"]
