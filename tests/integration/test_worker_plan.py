"""What the planner and the signals ask of others, over sockets: workers, autoscalers, and a broker that is away."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from aiohttp import ClientSession, web

from workers import ends
from workers.ends import Ends
from workers.plan import Outlook, answer_with, ask_all, look
from workers.reading import DueReading, LaneReading, PoolReading, Reading

LANES = {
    "interactive": LaneReading(),
    "standard": LaneReading(),
    "batch": LaneReading(backlog=12, waiting=10, busy=2, tokens=10_000, due=(DueReading(100_000, 10_000),)),
}


def test_workers_are_asked_and_an_autoscaler_is_answered() -> None:
    async def run() -> None:
        told = Reading("a", 1, {"p": PoolReading(4, 100.0, 0, LANES)})

        async def signals(_request: web.Request) -> web.Response:
            return web.Response(body=msgspec.json.encode(told))

        app = web.Application()
        app.router.add_get("/signals", signals)
        latest: list[Outlook] = []
        runners = [web.AppRunner(app), web.AppRunner(answer_with(lambda: latest[-1] if latest else None))]
        ports = []
        try:
            for runner in runners:
                await runner.setup()
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                ports.append(runner.addresses[0][1])
            worker, nobody = f"127.0.0.1:{ports[0]}", "127.0.0.1:1"
            found = await ask_all([worker, nobody])
            assert found == {worker: told, nobody: None}
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{ports[1]}/plan") as answer:
                assert answer.status == 503
            latest.append(look(found, {}, 0, 10, 0)[0])
            async with ClientSession() as session, session.get(f"http://127.0.0.1:{ports[1]}/plan") as answer:
                plan = await answer.json()
            assert plan["pools"]["p"]["need"] == pytest.approx(1.25)
            assert plan["pools"]["p"]["workers"] == 2
            assert plan["silent"] == [nobody]
        finally:
            for runner in runners:
                await runner.cleanup()

    asyncio.run(run())


def test_a_broker_that_does_not_answer_leaves_the_ends_unknown(monkeypatch) -> None:
    monkeypatch.setattr(ends, "ASK_S", 0.2)

    async def run() -> None:
        asked = Ends("127.0.0.1:1", "worker-1")
        assert await asked.of([]) == {}
        assert await asked.of([("work.p.batch", 0)]) == {}

    asyncio.run(run())
