from __future__ import annotations

import asyncio

from ingest.envelope import ApiError, unavailable
from ingest.waiting import GONE, MAX_CHUNKS, Call, Waiting


def record(request_id: str = "r", tenant: str = "t", **more: object) -> dict[str, object]:
    return {"tenant": tenant, "request_id": request_id, **more}


def test_a_reply_finds_its_call_by_tenant_and_id() -> None:
    waiting = Waiting()
    mine, other = Call("t", "r", False), Call("u", "r", False)
    waiting.enter(mine)
    waiting.enter(other)
    waiting.deliver([("Reply", record()), ("Reply", record("unknown"))])
    assert mine.end == record()
    assert other.end is None


def test_repeats_of_one_request_are_all_answered() -> None:
    waiting = Waiting()
    calls = [Call("t", "r", False) for _ in range(3)]
    for call in calls:
        waiting.enter(call)
    waiting.leave(calls[0])
    waiting.deliver([("Reply", record())])
    assert [call.end for call in calls] == [None, record(), record()]
    assert len(waiting) == 2


def test_there_is_room_up_to_the_limit() -> None:
    waiting = Waiting(limit=2)
    calls = [Call("t", str(i), False) for i in range(2)]
    for call in calls:
        assert waiting.has_room()
        waiting.enter(call)
    assert not waiting.has_room()
    waiting.leave(calls[0])
    assert waiting.has_room()


def test_a_slow_reader_keeps_a_bounded_number_of_chunks() -> None:
    call = Call("t", "r", True)
    for i in range(MAX_CHUNKS + 100):
        call.offer({"sequence": i})
    assert [c["sequence"] for c in call.chunks] == list(range(MAX_CHUNKS))


def test_chunks_are_for_streams_only() -> None:
    call = Call("t", "r", False)
    call.offer({"sequence": 0})
    assert not call.chunks


def test_the_first_end_counts() -> None:
    call = Call("t", "r", False)
    call.finish(GONE)
    call.finish(record())
    assert call.end is GONE


def test_a_waiter_wakes_for_a_chunk_and_for_the_end() -> None:
    async def run() -> None:
        call = Call("t", "r", True)
        asyncio.get_running_loop().call_soon(call.offer, {"sequence": 0})
        await asyncio.wait_for(call.ready(), 5)
        assert call.chunks.popleft() == {"sequence": 0}
        asyncio.get_running_loop().call_soon(call.refused, "no broker")
        await asyncio.wait_for(call.ready(), 5)
        assert isinstance(call.end, ApiError)
        assert call.end.status == 503

    asyncio.run(run())


def test_all_can_be_ended_at_once() -> None:
    waiting = Waiting()
    calls = [Call("t", str(i), bool(i)) for i in range(2)]
    for call in calls:
        waiting.enter(call)
    error = unavailable("stopping")
    waiting.end_all(error)
    assert [call.end for call in calls] == [error, error]
