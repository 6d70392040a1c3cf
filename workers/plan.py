"""How many workers each pool needs, and why: `python -m workers.plan worker-1:8110 worker-2:8111`.

Asks the workers at these addresses once and prints a table, or JSON with --json. With --port it goes on asking, and
GET /plan answers with the latest plan as JSON for an autoscaler, such as KEDA's metrics-api scaler with the
valueLocation `pools.<pool>.workers`. Only so does it remember: a single look knows nothing of the minutes before.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Final

import aiohttp
import msgspec
import typer
from aiohttp import web
from confluent_kafka import KafkaException
from rich.console import Console
from rich.table import Table

from streams import planner
from streams.planner import Demand, Plan
from workers import census, unattended
from workers.clock import now_ms
from workers.reading import Reading

ASK_S: Final = 3.0


class Pool(msgspec.Struct, frozen=True):
    """The plan of one pool. `workers` there shall be, of `running` now; `need` is not rounded, and why it is so."""

    workers: int
    running: int
    need: float
    demands: tuple[Demand, ...]
    recent: tuple[planner.Needed, ...]


class Outlook(msgspec.Struct, frozen=True):
    """The plan of all pools at `at_ms` (UTC). `silent` are addresses that did not answer."""

    at_ms: int
    pools: dict[str, Pool]
    silent: list[str]


def look(
    readings: dict[str, Reading | None],
    before: dict[str, Plan],
    least: int,
    most: int,
    at_ms: int,
    waits: Mapping[tuple[str, str], int] = MappingProxyType({}),
) -> tuple[Outlook, dict[str, Plan]]:
    """The plan made of what workers told, by address, and what the next one has to remember. Pure.

    While a worker is silent, nobody knows what waits at it: its pools keep at least the workers that were planned.
    `waits` are the records in the log by pool and lane; they wake a pool that has no worker.
    """
    silent = census.silent(readings)
    pools, plans = {}, dict(before)
    found = census.pools(r for r in readings.values() if r is not None)
    for name in sorted(found.keys() | {pool for pool, _ in waits}):
        told = found.get(name, [])
        lanes = census.lanes(told, {lane: count for (pool, lane), count in waits.items() if pool == name})
        floor = max(least, before[name].workers if silent and name in before else 0)
        fleet = census.fleet(told, min(floor, most), most)
        plan = plans[name] = planner.plan(before.get(name, Plan(fleet.workers)), lanes, fleet, at_ms)
        demands = planner.demands(lanes, fleet)
        pools[name] = Pool(plan.workers, fleet.workers, planner.need(lanes, fleet), demands, plan.recent)
    return Outlook(at_ms, pools, silent), plans


async def ask(session: aiohttp.ClientSession, address: str) -> Reading | None:
    """What the worker at host:port tells; None if it does not answer."""
    try:
        async with session.get(f"http://{address}/signals") as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=Reading)
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
        return None


async def ask_all(addresses: Iterable[str]) -> dict[str, Reading | None]:
    """What each tells, by address."""
    names = list(dict.fromkeys(addresses))
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_S)) as session:
        return dict(zip(names, await asyncio.gather(*(ask(session, name) for name in names)), strict=True))


def table(outlook: Outlook) -> Table:
    """The plan for a person."""
    found = Table("pool", "workers", "now", "need", "because of")
    for name, pool in outlook.pools.items():
        reasons = sorted(pool.demands, key=lambda demand: -demand.workers)
        found.add_row(
            name, str(pool.workers), str(pool.running), f"{pool.need:.2f}", "; ".join(map(reason, reasons)) or "no work"
        )
    return found


def reason(demand: Demand) -> str:
    """One demand in words."""
    seconds = f"{demand.within_ms / 1_000:.0f} s"
    why = {
        "running": "what runs or is kept free",
        "waiting": f"what waits, within {seconds}",
        "deadline": f"a deadline in {seconds}",
        "unmeasured": "what waits, of unknown size",
    }[demand.why]
    return f"{demand.lane}: {why} ({demand.workers:.2f})"


def answer_with(latest: Callable[[], Outlook | None]) -> web.Application:
    """GET /plan: the latest plan, or 503 while there is none."""

    async def plan(_request: web.Request) -> web.Response:
        outlook = latest()
        if outlook is None:
            return web.Response(status=503)
        return web.Response(body=msgspec.json.encode(outlook), content_type="application/json")

    app = web.Application()
    app.router.add_get("/plan", plan)
    return app


async def lag(bootstrap: str) -> dict[tuple[str, str], int]:
    """What lies in the log; nothing, with a word about it, where Kafka is not given or does not answer."""
    if not bootstrap:
        return {}
    try:
        return await asyncio.to_thread(unattended.unfinished, bootstrap)
    except KafkaException as error:
        print(f"millrace: Kafka at {bootstrap} does not answer: {error}", file=sys.stderr)
        return {}


async def serve(addresses: list[str], kafka: str, least: int, most: int, host: str, port: int, every_s: float) -> None:
    """Ask and plan for ever, and answer GET /plan."""
    outlook: Outlook | None = None
    plans: dict[str, Plan] = {}
    runner = web.AppRunner(answer_with(lambda: outlook), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        while True:
            told, waits = await asyncio.gather(ask_all(addresses), lag(kafka))
            outlook, plans = look(told, plans, least, most, now_ms(), waits)
            await asyncio.sleep(every_s)
    finally:
        await runner.cleanup()


def main(
    addresses: Annotated[list[str], typer.Argument(help="host:port of each worker's signals")],
    kafka: Annotated[str, typer.Option(help="host:port, to see what waits for a pool without workers")] = "",
    least: Annotated[int, typer.Option(help="workers of a pool, at least")] = 0,
    most: Annotated[int, typer.Option(help="workers of a pool, at most")] = 1_000,
    json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    port: Annotated[int, typer.Option(help="go on, and answer GET /plan here")] = 0,
    host: Annotated[str, typer.Option(help="the interface of --port")] = "127.0.0.1",
    every_s: Annotated[float, typer.Option(help="seconds between two looks")] = 10.0,
) -> None:
    """How many workers each pool needs, and why."""
    if least > most:
        raise typer.BadParameter("--least is more than --most")
    if port:
        asyncio.run(serve(addresses, kafka, least, most, host, port, every_s))
        return
    told, waits = asyncio.run(ask_all(addresses)), asyncio.run(lag(kafka))
    outlook, _ = look(told, {}, least, most, now_ms(), waits)
    if json:
        print(msgspec.json.format(msgspec.json.encode(outlook)).decode())
    else:
        Console().print(table(outlook))
    for address in outlook.silent:
        print(f"millrace: the worker at {address} does not answer", file=sys.stderr)
    if not outlook.pools:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
