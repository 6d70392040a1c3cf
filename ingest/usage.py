"""GET /v1/usage: the last minutes, as the live application counts them in Redis. Never the source of money."""

from __future__ import annotations

import time
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest import envelope
from ingest.services import Services
from schemas.config import Principal

FIELDS: Final = ("requests", "input_tokens", "output_tokens", "cost_micros")
MAX_MINUTES: Final = 1_440
BATCH: Final = 1_000


def make_router(services: Services) -> APIRouter:
    """The route /v1/usage."""
    router = APIRouter()
    redis: Any = Redis.from_url(services.addresses.redis, socket_timeout=2, socket_connect_timeout=2)

    @router.get("/v1/usage")
    async def usage(
        minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = 60,
        principal: Principal = Depends(services.authenticate),
    ) -> Response:
        """Sums by tenant over the last `minutes`, the current one included; an admin sees every tenant."""
        everyone = "admin" in principal.roles
        tenants = services.config().tenants if everyone else (principal.tenant,)
        now_s = int(time.time())
        try:
            data = [await _sum(redis, tenant, now_s, minutes) for tenant in tenants]
        except RedisError as error:
            raise envelope.unavailable(f"Live usage cannot be read now: {type(error).__name__}.") from None
        total = {field: sum(row[field] for row in data) for field in FIELDS}
        answer = {"object": "list", "minutes": minutes, "data": data, "total": total}
        return Response(orjson.dumps(answer), media_type=envelope.JSON)

    return router


def key(tenant: str, minute_s: int) -> str:
    """Redis hash of one tenant in the minute that begins at `minute_s`, seconds UTC."""
    return f"usage:{tenant}:{minute_s}"


async def _sum(redis: Any, tenant: str, now_s: int, minutes: int) -> dict[str, Any]:
    latest = now_s - now_s % 60
    starts = [latest - 60 * i for i in range(minutes)]
    rows: list[list[bytes | None]] = []
    for i in range(0, minutes, BATCH):
        pipeline = redis.pipeline(transaction=False)
        for start in starts[i : i + BATCH]:
            pipeline.hmget(key(tenant, start), FIELDS)
        rows += await pipeline.execute()
    sums = {field: sum(int(row[i] or 0) for row in rows) for i, field in enumerate(FIELDS)}
    return {"object": "usage", "tenant": tenant, **sums}
