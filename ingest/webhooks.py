"""/v1/webhooks: what became of the events that were to be told, and telling one again. An extension of OpenAI's API.

What is shown comes from Redis, where the live application writes it; what is asked for goes to the topic `events`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Request
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.responses import Response

from ingest import envelope
from ingest.batches import read_body
from ingest.files import answer, page, page_limit
from ingest.journal import JournalError
from ingest.services import Services
from schemas import topics
from schemas.config import Principal
from schemas.records import Delivery, Event
from schemas.webhooks import Webhook
from streams import deliveries

DEFAULT_LIST: Final = 20
MAX_LIST: Final = 100
LOOK_AT: Final = 200
Found = list[Delivery]

STATUSES: Final = ("pending", "delivered", "failed")


class ShownAttempt(msgspec.Struct, frozen=True):
    """One call of an endpoint. `at` is Unix seconds; `status_code` is null if nothing was answered."""

    at: int
    status_code: int | None
    error: str | None
    took_ms: int


class ShownDelivery(msgspec.Struct, frozen=True):
    """How far the delivery of an event to an endpoint is. Times are Unix seconds; `created_at` is the event's."""

    id: str
    event_id: str
    endpoint: str
    type: str
    batch_id: str
    created_at: int
    status: str
    next_attempt_at: int | None
    last_error: str | None
    attempts: tuple[ShownAttempt, ...]
    object: str = "webhook.delivery"


def shown(delivery: Delivery) -> ShownDelivery:
    """A delivery as the API shows it."""
    attempts = tuple(
        ShownAttempt(a["at"] // 1000, a["http_status"] or None, a["error"] or None, a["took_ms"])
        for a in delivery["attempts"]
    )
    return ShownDelivery(
        id=f"{delivery['event_id']}/{delivery['endpoint']}",
        event_id=delivery["event_id"],
        endpoint=delivery["endpoint"],
        type=delivery["type"],
        batch_id=delivery["batch_id"],
        created_at=delivery["created_at"] // 1000,
        status=delivery["status"],
        next_attempt_at=-(-delivery["due_at"] // 1000) if delivery["status"] == "pending" else None,
        last_error=attempts[-1].error if attempts and delivery["status"] != "delivered" else None,
        attempts=attempts,
    )


def make_router(services: Services) -> APIRouter:
    """The routes."""
    router = APIRouter(prefix="/v1/webhooks")
    routes = Webhooks(services)
    router.add_api_route("/deliveries", routes.list, methods=["GET"])
    router.add_api_route("/deliveries/{event_id}/redeliver", routes.redeliver, methods=["POST"])
    return router


class Webhooks:
    """The handlers. A tenant sees its own; an admin names the tenant it means as `?tenant=`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._redis: Any = Redis.from_url(services.addresses.redis, socket_timeout=2, socket_connect_timeout=2)

    async def list(self, request: Request) -> Response:
        """GET /v1/webhooks/deliveries, the latest begun first; only those of a `status`, `endpoint`, `batch_id`."""
        tenant = self._tenant(request, await self._services.authenticate(request))
        query = request.query_params
        limit = page_limit(query.get("limit"), DEFAULT_LIST, MAX_LIST)
        status = query.get("status")
        if status is not None and status not in STATUSES:
            raise envelope.invalid(f"status must be one of {', '.join(STATUSES)}.", "status")
        only = {name: query[name] for name in ("status", "endpoint", "batch_id") if name in query}
        try:
            found = await self._find(tenant, query.get("after", ""), limit + 1, only)
        except RedisError as error:
            raise _away(error) from None
        return answer(page([shown(delivery) for delivery in found], limit))

    async def redeliver(self, request: Request, event_id: str) -> Response:
        """POST /v1/webhooks/deliveries/{event_id}/redeliver: deliver it anew, to `endpoint` or to all who want it."""
        tenant = self._tenant(request, await self._services.caller(request))
        asked = await read_body(request, otherwise=b"{}")
        endpoint = asked.get("endpoint", "") if isinstance(asked, dict) else None
        if not isinstance(endpoint, str):
            raise envelope.invalid("endpoint must be the name of an endpoint.", "endpoint")
        try:
            known = await self._redis.hvals(deliveries.event_name(tenant, event_id))
        except RedisError as error:
            raise _away(error) from None
        if not known:
            raise envelope.not_found(f"No event found with id '{event_id}'.", "event_id")
        delivery: Delivery = msgspec.json.decode(known[0])
        event = _again(delivery, endpoint)
        names = deliveries.wanted(event, self._configured(tenant))
        if not names:
            what = f"called '{endpoint}'" if endpoint else f"that wants {event['type']}"
            raise envelope.not_found(f"There is no endpoint {what}.", "endpoint")
        try:
            await self._services.journal.append(topics.EVENTS, tenant, "Event", event)
        except JournalError as error:
            raise envelope.unavailable(f"The event was not written: {error}.") from error
        told = {"object": "webhook.redelivery", "event_id": event_id, "endpoints": names, "status": "pending"}
        return answer(told, 202)

    def _tenant(self, request: Request, principal: Principal) -> str:
        tenant = request.query_params.get("tenant", principal.tenant)
        if tenant != principal.tenant and "admin" not in principal.roles:
            raise envelope.forbidden("Only an operator's key sees the deliveries of another tenant.")
        return tenant

    def _configured(self, tenant: str) -> tuple[Webhook, ...]:
        settings = self._services.config().settings.get(tenant)
        return settings.webhooks if settings is not None else ()

    async def _find(self, tenant: str, after: str, count: int, only: Mapping[str, str]) -> Found:
        """Up to `count` deliveries that are `only` so, after the id `after`. Raises ApiError (400), RedisError."""
        name, at = deliveries.list_name(tenant), 0
        if after:
            rank = await self._redis.zrevrank(name, after)
            if rank is None:
                raise envelope.invalid("after must be the id of a delivery.", "after")
            at = rank + 1
        found: Found = []
        while len(found) < count:
            ids = [raw.decode() for raw in await self._redis.zrevrange(name, at, at + LOOK_AT - 1)]
            pipeline = self._redis.pipeline(transaction=False)
            for event_id, _, endpoint in (text.partition("/") for text in ids):
                pipeline.hget(deliveries.event_name(tenant, event_id), endpoint)
            some: list[Any] = [msgspec.json.decode(raw) for raw in await pipeline.execute() if raw]
            found += [d for d in some if all(d[field] == wanted for field, wanted in only.items())]
            at += LOOK_AT
            if len(ids) < LOOK_AT:
                break
        return found[:count]


def _again(delivery: Delivery, endpoint: str) -> Event:
    return {
        "tenant": delivery["tenant"],
        "event_id": delivery["event_id"],
        "type": delivery["type"],
        "batch_id": delivery["batch_id"],
        "created_at": delivery["created_at"],
        "repeat": True,
        "endpoint": endpoint,
    }


def _away(error: RedisError) -> envelope.ApiError:
    return envelope.unavailable(f"The delivery log cannot be read now: {type(error).__name__}.")
