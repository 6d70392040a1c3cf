"""The delivery log in Redis, for those who ask the gateway. It repeats the topic `deliveries`, and is written anew from
there whenever this application begins; so nothing waits for Redis but the view itself.

`webhooks:<tenant>` holds the ids of its deliveries, `<event id>/<endpoint>`, sorted by when they were planned; the hash
`webhooks:<tenant>:<event id>` holds each as JSON, by endpoint. The names are in streams/deliveries.py.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas.records import Delivery
from streams import deliveries
from streams.deliveries import Key
from streams.patience import keep_trying_async

AT_ONCE: Final = 500


class DeliveryView:
    """Call `note` whenever a delivery has changed; `run` writes what was noted."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._noted: dict[Key, Delivery] = {}
        self._some = asyncio.Event()

    def note(self, delivery: Delivery) -> None:
        """Have a delivery shown as it is now."""
        self._noted[deliveries.key(delivery)] = delivery
        self._some.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._noted:
                some = [self._noted.pop(key) for key in list(self._noted)[:AT_ONCE]]
                await keep_trying_async("redis", partial(self._write, some), (RedisError, OSError))

    async def _write(self, some: list[Delivery]) -> None:
        pipeline = self._redis.pipeline(transaction=False)
        for delivery in some:
            tenant, endpoint, event_id = deliveries.key(delivery)
            name = deliveries.event_name(tenant, event_id)
            pipeline.hset(name, endpoint, orjson.dumps(delivery))
            pipeline.pexpireat(name, delivery["begun_at"] + deliveries.SHOWN_MS)
            if endpoint:
                index = deliveries.list_name(tenant)
                pipeline.zadd(index, {f"{event_id}/{endpoint}": delivery["begun_at"]})
                pipeline.zremrangebyscore(index, "-inf", delivery["begun_at"] - deliveries.SHOWN_MS)
                pipeline.zremrangebyrank(index, 0, -deliveries.MOST_SHOWN - 1)
                pipeline.pexpire(index, deliveries.SHOWN_MS)
        await pipeline.execute()
