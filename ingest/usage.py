"""GET /v1/usage: the last minutes, or a batch, as the live application counts them in Redis; no source of money."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Depends, Query, Response
from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest import envelope, ids
from ingest.services import Services
from schemas import topics
from schemas.config import Principal
from streams import progress

MAX_MINUTES: Final = 1_440
BATCH: Final = 1_000


def make_router(services: Services) -> APIRouter:
    """The route /v1/usage."""
    router = APIRouter()
    redis: Any = Redis.from_url(services.addresses.redis, socket_timeout=2, socket_connect_timeout=2)

    @router.get("/v1/usage")
    async def usage(
        minutes: Annotated[int, Query(ge=1, le=MAX_MINUTES)] = 60,
        lanes: bool = False,
        batch_id: str = "",
        principal: Principal = Depends(services.authenticate),
    ) -> Response:
        """Sums by tenant over the last `minutes`, the current one included; an admin sees every tenant.

        `lanes` adds the same by lane. `batch_id` asks for all that a batch used until now instead.
        """
        if batch_id and not ids.is_id(ids.BATCH, batch_id):
            raise envelope.invalid("batch_id must be the id of a batch.", "batch_id")
        everyone = "admin" in principal.roles
        tenants = services.config().tenants if everyone else (principal.tenant,)
        now_s = int(time.time())
        try:
            if batch_id:
                data = [_row(t, await _sum(redis, [progress.batch_key(t, batch_id)])) for t in tenants]
            else:
                data = [await _tenant(redis, t, now_s, minutes, lanes) for t in tenants]
        except RedisError as error:
            raise envelope.unavailable(f"Live usage cannot be read now: {type(error).__name__}.") from None
        total = {field: sum(row[field] for row in data) for field in progress.FIELDS}
        span = {"batch_id": batch_id} if batch_id else {"minutes": minutes}
        answer = {"object": "list", **span, "data": data, "total": total}
        return Response(orjson.dumps(answer), media_type=envelope.JSON)

    return router


async def _tenant(redis: Any, tenant: str, now_s: int, minutes: int, lanes: bool) -> dict[str, Any]:
    starts = [1000 * (now_s - 60 * i) for i in range(minutes)]
    row = _row(tenant, await _sum(redis, [progress.window_key(tenant, at) for at in starts]))
    if lanes:
        keys = {lane: [progress.lane_key(tenant, lane, at) for at in starts] for lane in topics.LANES}
        row["lanes"] = {lane: await _sum(redis, of_lane) for lane, of_lane in keys.items()}
    return row


def _row(tenant: str, sums: dict[str, int]) -> dict[str, Any]:
    return {"object": "usage", "tenant": tenant, **sums}


async def _sum(redis: Any, keys: Sequence[str]) -> dict[str, int]:
    rows: list[list[bytes | None]] = []
    for i in range(0, len(keys), BATCH):
        pipeline = redis.pipeline(transaction=False)
        for key in keys[i : i + BATCH]:
            pipeline.hmget(key, progress.FIELDS)
        rows += await pipeline.execute()
    return {field: sum(int(row[i] or 0) for row in rows) for i, field in enumerate(progress.FIELDS)}
