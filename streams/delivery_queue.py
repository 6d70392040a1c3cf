"""Which deliveries are to be tried now: a slow or dead endpoint holds up nobody but itself. Pure.

A healthy endpoint is called by up to SLOTS at once, one whose last attempt failed by one: so what a dead one costs is
one waiting connection. One that said it is gone is not called until a configuration is published after that; nor is one
that is not configured. What is due to them waits, and is given up when its day is over.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.records import Attempt, Delivery
from schemas.webhooks import Webhook
from streams import deliveries
from streams.deliveries import Endpoint, Key

SLOTS: Final = 4
# Connections at once, to all endpoints together.
MAX_RUNNING: Final = 256


class Start(NamedTuple):
    """A delivery to be tried now, and where."""

    delivery: Delivery
    webhook: Webhook


class Queue:
    """All deliveries of the partitions that are ours. Every change comes in by `put`, once the log has it."""

    def __init__(self) -> None:
        self.known: dict[Key, Delivery] = {}
        self._webhooks: dict[Endpoint, Webhook] = {}
        self._published_ms = 0
        # By endpoint, when to look at which delivery. What has changed since has another entry; the old one is stale.
        self._waiting: defaultdict[Endpoint, list[tuple[int, Key]]] = defaultdict(list)
        self._running: dict[Key, Endpoint] = {}
        self._busy: Counter[Endpoint] = Counter()
        self._last: dict[Endpoint, Attempt] = {}

    def configure(self, webhooks: Mapping[Endpoint, Webhook], published_ms: int) -> None:
        """Live by a configuration that was published at `published_ms`."""
        self._webhooks, self._published_ms = dict(webhooks), published_ms
        self._waiting.clear()
        for key in self.known:
            self._wait(key)

    def put(self, delivery: Delivery) -> None:
        """Take a delivery as it is now. It may be begun anew while it runs: it waits from the end of that on."""
        key = deliveries.key(delivery)
        endpoint = Endpoint(key.tenant, key.endpoint)
        self.known[key] = delivery
        open_before = self.is_open(endpoint)
        for attempt in delivery["attempts"][-1:]:
            if endpoint not in self._last or attempt["at"] >= self._last[endpoint]["at"]:
                self._last[endpoint] = attempt
        if self.is_open(endpoint) != open_before:
            self._waiting.pop(endpoint, None)
            for other in self.known:
                if (other.tenant, other.endpoint) == endpoint:
                    self._wait(other)
        else:
            self._wait(key)

    def end(self, key: Key) -> None:
        """What was to be tried was tried: its slot is free. Then `put` what became of it."""
        self._busy[self._running.pop(key)] -= 1

    def keep(self, tenants: Iterable[str]) -> None:
        """Forget the deliveries of all but these tenants: they are another process's now. What runs goes on."""
        kept = set(tenants)
        self.known = {key: d for key, d in self.known.items() if key.tenant in kept}

    def forget(self, now_ms: int) -> None:
        """Forget what is over for good."""
        self.known = {key: d for key, d in self.known.items() if not deliveries.is_over(d, now_ms)}

    def is_open(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint may be called: it is configured, and has not said since then that it is gone."""
        last = self._last.get(endpoint)
        gone = last is not None and last["http_status"] == deliveries.GONE and last["at"] >= self._published_ms
        return endpoint in self._webhooks and not gone

    def is_well(self, endpoint: Endpoint) -> bool:
        """Whether its last attempt, if any, did not fail."""
        return not (endpoint in self._last and self._last[endpoint]["error"])

    def next(self, now_ms: int) -> tuple[list[Start], list[Delivery]]:
        """(what is to be tried now and counts as running from here on, what is to be given up)."""
        starts: list[Start] = []
        lost: list[Delivery] = []
        for endpoint, waiting in sorted(self._waiting.items(), key=lambda item: item[1][:1]):
            while waiting and waiting[0][0] <= now_ms:
                wake_ms, key = waiting[0]
                if self._is_stale(key, wake_ms):
                    heapq.heappop(waiting)
                elif not self.is_open(endpoint):
                    heapq.heappop(waiting)
                    lost.append(self.known[key])
                elif self._has_room(endpoint):
                    heapq.heappop(waiting)
                    self._running[key] = endpoint
                    self._busy[endpoint] += 1
                    starts.append(Start(self.known[key], self._webhooks[endpoint]))
                else:
                    break
            if not waiting:
                del self._waiting[endpoint]
        return starts, lost

    def _has_room(self, endpoint: Endpoint) -> bool:
        slots = SLOTS if self.is_well(endpoint) else 1
        return self._busy[endpoint] < slots and len(self._running) < MAX_RUNNING

    def _wake_ms(self, delivery: Delivery) -> int:
        is_open = self.is_open(Endpoint(delivery["tenant"], delivery["endpoint"]))
        return delivery["due_at"] if is_open else deliveries.deadline_ms(delivery)

    def _is_stale(self, key: Key, wake_ms: int) -> bool:
        delivery = self.known.get(key)
        if delivery is None or delivery["status"] != "pending" or key in self._running:
            return True
        return self._wake_ms(delivery) != wake_ms

    def _wait(self, key: Key) -> None:
        delivery = self.known[key]
        if delivery["status"] == "pending" and key not in self._running:
            entry = (self._wake_ms(delivery), key)
            heapq.heappush(self._waiting[Endpoint(key.tenant, key.endpoint)], entry)
