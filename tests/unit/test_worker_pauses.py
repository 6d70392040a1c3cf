"""Batch work that pauses for interactive callers, in a whole worker with the echo engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from schemas import config, config_check
from tests.unit.worker_room import Room, content
from workers.clock import now_ms
from workers.item import MOST_STOPS

POOL = {"engine": "echo", "concurrency": 16, "token_ms": 4}
RULES = [{"id": "phrase", "match": "forbidden fruit"}, {"id": "card", "detect": "credit_card", "action": "mask"}]
RULES_HASH = config.rules_hash(config_check.parse({"rule_sets": {"r": RULES}}).rule_sets["r"])
WORDS = " ".join(f"w{n}" for n in range(60))
HOLD = "hold " * 30


def play(case: Callable[[Room], Coroutine[Any, Any, None]], pool: dict[str, Any] | None = None, **room: Any) -> None:
    async def run() -> None:
        held = await Room({"echo": {**POOL, **(pool or {})}}, {"r": RULES}, **room).open()
        try:
            await case(held)
        finally:
            await held.worker.drain()

    asyncio.run(run())


def debt(room: Room) -> None:
    """As if batch had harvested for long: it is owed nothing."""
    room.worker.stations["echo"].lanes._lanes["batch"].credit.level_ms = -1e9


async def paused(room: Room, request_id: str, at_least: int = 3, **fields: Any) -> None:
    """Start a batch request, and have it paused by an interactive one that runs on."""
    debt(room)
    room.ask(request_id, fields.pop("text", WORDS), "batch", **fields)
    await room.until(lambda: item(room, request_id).seen.counts.output_tokens >= at_least, "it runs")
    room.ask(f"{request_id} caller", HOLD)
    await room.until(lambda: item(room, request_id).task is None, "it pauses")


def item(room: Room, request_id: str) -> Any:
    found = room.item(request_id)
    assert found is not None
    return found


def test_a_paused_answer_goes_on_where_it_was() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        so_far, slots = item(room, "b").seen.counts, room.worker.stations["echo"].lanes
        assert (slots.busy("batch"), room.low("batch")) == (0, 0)
        room.ask("c2", "hi")
        await room.done("b caller", "c2")
        (done,) = await room.done("b")
        assert content(done) == WORDS and (done["input_tokens"], done["output_tokens"]) == (60, 60)
        assert 3 <= so_far.output_tokens < 60 and done["outcome"] == "ok"
        assert room.low("batch") == 1 and room.worker.stations["echo"].repeated_tokens == 0

    play(case)


def test_many_lines_are_each_answered_once_over_many_pauses() -> None:
    async def case(room: Room) -> None:
        debt(room)
        names = [f"b{n}" for n in range(40)]
        for n, name in enumerate(names):
            room.ask(name, f"{n} " + WORDS, "batch")
        for n in range(12):
            room.ask(f"c{n}", "a b c d e")
            await room.done(f"c{n}")
            await asyncio.sleep(0.07)  # The hold-off passes, or nearly.
        for n, done in enumerate(await room.done(*names, timeout_s=30)):
            assert content(done) == f"{n} {WORDS}" and done["output_tokens"] == 61
        assert room.low("batch") == 40 and not room.worker._docket.open

    play(case)


def test_nothing_new_of_batch_starts_while_callers_are_there_and_all_of_it_when_they_have_gone() -> None:
    async def case(room: Room) -> None:
        room.ask("c", HOLD)
        debt(room)
        room.ask("b", "one", "batch")
        await room.done("c")
        assert "b" not in room.box.completions
        await room.done("b", timeout_s=1)

    play(case)


def test_an_engine_that_cannot_go_on_begins_anew_and_its_tokens_are_counted() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        seen = item(room, "b").seen
        spent, seen.continuation = seen.spent, None
        (done,) = await room.done("b")
        assert content(done) == WORDS and (done["input_tokens"], done["output_tokens"]) == (60, 60)
        assert room.worker.stations["echo"].repeated_tokens == spent >= 63

    play(case)


def test_another_engine_begins_anew() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        room.configure({"echo": {**POOL, "token_ms": 2}})
        (done,) = await room.done("b")
        assert content(done) == WORDS and done["output_tokens"] == 60
        assert room.worker.stations["echo"].repeated_tokens >= 63

    play(case)


def test_a_paused_request_goes_with_its_partition() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        station = room.worker.stations["echo"]
        mine = [TopicPartition(name, 0) for name in room.names]
        (batch,) = [o for o in await room.worker.membership.revoked(mine, lost=False) if o.topic == "work.echo.batch"]
        assert (batch.offset, len(station.buffers["batch"]), room.item("b")) == (0, 0, None)
        assert station.repeated_tokens >= 63 and "b" not in room.box.completions

    play(case)


def test_a_request_whose_partition_goes_while_it_is_about_to_pause_is_dropped() -> None:
    async def case(room: Room) -> None:
        debt(room)
        room.ask("b", WORDS, "batch")
        await room.until(lambda: item(room, "b").seen.counts.output_tokens >= 3, "it runs")
        room.ask("c", HOLD)
        assert item(room, "b").seen.pausing
        mine = [TopicPartition(name, 0) for name in room.names]
        await room.worker.membership.revoked(mine, lost=True)
        await room.until(lambda: room.item("b") is None, "it is dropped")
        assert not room.worker.stations["echo"].buffers["batch"] and "b" not in room.box.completions

    play(case)


def test_a_paused_request_can_be_cancelled_and_tells_what_it_spent() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        spent = item(room, "b").seen.counts
        room.cancel("b")
        (done,) = await room.done("b", timeout_s=1)
        assert "b caller" not in room.box.completions
        assert (done["outcome"], done["output_tokens"]) == ("cancelled", spent.output_tokens) and spent.output_tokens
        await room.done("b caller")

    play(case)


def test_a_request_cancelled_while_it_is_about_to_pause_ends() -> None:
    async def case(room: Room) -> None:
        debt(room)
        room.ask("b", WORDS, "batch")
        await room.until(lambda: item(room, "b").seen.counts.output_tokens >= 3, "it runs")
        room.ask("c", HOLD)
        room.cancel("b")
        (done,) = await room.done("b", timeout_s=1)
        assert done["outcome"] == "cancelled" and done["output_tokens"] >= 3

    play(case)


def test_a_deadline_that_passes_in_a_pause_is_kept() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b", deadline=now_ms() + 100)
        await room.until(lambda: now_ms() > item(room, "b").work["deadline"], "it is late")
        (done,) = await room.done("b")
        assert done["outcome"] == "expired" and done["output_tokens"] >= 3

    play(case)


def test_a_pause_counts_in_no_bound_of_time_and_start_by_is_over_once_begun() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b", start_by=now_ms() + 100)
        for n in range(4):
            room.ask(f"c{n}", HOLD)
            await room.done(f"c{n}")
        await room.until(lambda: now_ms() > item(room, "b").work["start_by"] + 50, "the pause is long")
        (done,) = await room.done("b")
        assert done["outcome"] == "ok" and content(done) == WORDS
        assert done["finished_at"] - done["started_at"] > 450

    play(case, {"timeout_ms": 450})


def test_time_that_it_ran_does_count_over_its_pauses() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b", 25)
        (done,) = await room.done("b")
        assert (done["outcome"], done["output_tokens"] < 60) == ("unavailable", True)

    play(case, {"timeout_ms": 180})


@pytest.mark.parametrize("at_least", [2, 5])
def test_moderation_holds_back_over_a_pause(at_least: int) -> None:
    async def case(room: Room) -> None:
        text = "one two forbidden fruit three"
        await paused(room, "b", 3, text=text, rules=RULES_HASH)
        await paused(room, "m", at_least, text="a 4111 1111 1111 1111 " + WORDS, rules=RULES_HASH)
        blocked, masked = await room.done("b", "m")
        assert blocked["outcome"] == "blocked" and blocked["findings"][0]["rule"] == "phrase"
        assert "4111" not in content(masked) and content(masked).endswith("w59")

    play(case, {"token_ms": 10})


def test_a_line_that_was_stopped_often_runs_to_its_end() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b")
        item(room, "b").stops = MOST_STOPS
        await room.until(lambda: room.item("b") is None or item(room, "b").task is not None, "it goes on")
        room.ask("c", "word " * 100)
        await room.done("b")
        assert "c" not in room.box.completions
        await room.done("c")

    play(case)


def test_what_a_caller_sees_of_a_streamed_batch_answer_is_whole() -> None:
    async def case(room: Room) -> None:
        await paused(room, "b", stream=True)
        (done,) = await room.done("b")
        shown = [c["data"] for c in room.box.chunks["b"]]
        assert [c["sequence"] for c in room.box.chunks["b"]] == list(range(60)) and len(shown) == 60
        assert content(done) == WORDS and {c["attempt"] for c in room.box.chunks["b"]} == {done["attempt"]}

    play(case)


def test_the_end_gives_batch_work_up_without_a_completion_and_finishes_what_callers_wait_for() -> None:
    async def case(room: Room) -> None:
        debt(room)
        room.ask("b", WORDS * 10, "batch")
        await room.until(lambda: item(room, "b").seen.counts.output_tokens >= 3, "it runs")
        room.ask("s", "word " * 20, "standard")
        await room.until(lambda: item(room, "s").seen.counts.output_tokens >= 3, "it runs, too")
        low = room.worker._partitions.get(("work.echo.batch", 0))
        await room.worker.drain()
        (done,) = await room.done("s")
        assert done["outcome"] == "ok" and "b" not in room.box.completions
        assert low is not None and low.low == 0

    play(case)


def test_the_end_is_bounded() -> None:
    async def case(room: Room) -> None:
        room.ask("c", "word " * 1_000)
        await room.until(lambda: item(room, "c").seen.counts.output_tokens >= 3, "it runs")
        began = asyncio.get_running_loop().time()
        await room.worker.drain()
        assert 0.2 <= asyncio.get_running_loop().time() - began < 2 and "c" not in room.box.completions

    play(case, drain_s=0.2)


def test_without_protection_all_lanes_are_one_queue() -> None:
    async def case(room: Room) -> None:
        for n in range(8):
            room.ask(f"b{n}", "a b c", "batch")
        room.ask("c", "a b c")
        await room.done("c", *(f"b{n}" for n in range(8)))
        assert list(room.box.completions)[-1] == "c"
        room.configure({"echo": {**POOL, "concurrency": 4, "protection": "full"}})
        for n in range(8, 12):
            room.ask(f"b{n}", "a b c", "batch")
        room.ask("d", "a b c")
        await room.done("d", *(f"b{n}" for n in range(8, 12)))
        assert list(room.box.completions).index("d") < 11

    play(case, {"protection": "none", "concurrency": 4})
