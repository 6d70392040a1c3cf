"""How many forms are taken in at the same time, and who waits for whom."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.requests import Request

from ingest import receiving
from ingest.envelope import ApiError
from ingest.receiving import SHORT_BYTES, Receiving


def form(length: int | None) -> Request:
    headers = [] if length is None else [(b"content-length", str(length).encode())]
    return Request({"type": "http", "headers": headers})


def test_a_form_waits_for_its_place_and_a_short_one_never_for_a_long_one() -> None:
    async def run() -> list[str]:
        rooms = Receiving(most_long=1, most_short=1)
        done: list[str] = []

        async def take(name: str, length: int | None) -> None:
            async with rooms.room(form(length)):
                done.append(name)

        async with AsyncExitStack() as held:
            await held.enter_async_context(rooms.room(form(None)))
            waiting = asyncio.create_task(take("long", SHORT_BYTES + 1))
            await take("short", SHORT_BYTES)
            assert done == ["short"] and not waiting.done()
        await waiting
        return done

    assert asyncio.run(run()) == ["short", "long"]


def test_nobody_waits_for_ever_nor_does_a_crowd(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        rooms = Receiving(most_long=1)
        async with rooms.room(form(None)):
            for name, value in (("PATIENCE_S", 0.01), ("MAX_WAITING", 0)):
                monkeypatch.setattr(receiving, name, value)
                with pytest.raises(ApiError) as refused:
                    await rooms.room(form(None)).__aenter__()
                assert (refused.value.status, refused.value.code) == (503, "overloaded")
        monkeypatch.setattr(receiving, "MAX_WAITING", 1)
        async with rooms.room(form(None)):
            pass

    asyncio.run(run())
