"""Where a worker is asked how it stands: GET /metrics in Prometheus' text format, GET /signals as JSON.

What is counted on the way of work is plain numbers; the text is made of them when it is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final, Protocol

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from workers.ends import Ends
from workers.partitions import Place
from workers.reading import LaneReading, Reading
from workers.signals import Histogram, LaneSignals
from workers.station import Station

log = logging.getLogger(__name__)

PREFIX: Final = "millrace_worker_"
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

GAUGES: Final[tuple[tuple[str, str, Callable[[LaneReading], float | None]], ...]] = (
    ("backlog_records", "Records of our partitions not finished: unread, waiting and running", lambda r: r.backlog),
    ("unread_records", "Records of our partitions not read yet", lambda r: r.unread),
    ("waiting_records", "Records read that wait for a slot", lambda r: r.waiting),
    ("oldest_waiting_seconds", "Since the admission of the oldest that waits", lambda r: r.oldest_ms / 1_000),
    (
        "deadline_slack_seconds",
        "Until the first deadline of what waits; negative when past, absent without one",
        lambda r: None if r.slack_ms is None else r.slack_ms / 1_000,
    ),
    ("at_risk_records", "Of what waits, what its turn will come too late for", lambda r: r.at_risk),
    ("waiting_tokens", "Tokens, estimated, of what is unread or waits", lambda r: r.tokens),
    ("busy_slots", "Slots in use", lambda r: r.busy),
)
COUNTERS: Final[tuple[tuple[str, str, Callable[[LaneSignals], int]], ...]] = (
    ("attempts", "Attempts for which an engine was asked and that ended", lambda s: s.attempts),
    ("input_tokens", "Prompt tokens, those of the prefix cache included", lambda s: s.input_tokens),
    ("cached_prompt_tokens", "Prompt tokens that the engine had in its prefix cache", lambda s: s.cached_tokens),
    ("preemptions", "Running requests that were stopped, to go on later", lambda s: s.preemptions),
    ("output_tokens", "Tokens of answers", lambda s: s.output_tokens),
)
BY_NAME: Final[tuple[tuple[str, str, str, Callable[[LaneSignals], dict[str, int]]], ...]] = (
    ("completions", "Ends of attempts, by outcome", "outcome", lambda s: s.outcomes),
    ("faults", "Attempts that gave no answer, by the code of the error", "code", lambda s: s.faults),
)
HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[LaneSignals], Histogram]], ...]] = (
    ("queue_wait_seconds", "From admission to the start of an attempt", lambda s: s.queue),
    ("time_to_first_token_seconds", "From the start of an attempt to its first token", lambda s: s.first_token),
    ("time_per_output_token_seconds", "Between an attempt's tokens, on average", lambda s: s.per_token),
)


class Subject(Protocol):
    """Who is asked."""

    stations: dict[str, Station]

    @property
    def places(self) -> list[Place]:
        """The partitions that are its own."""
        ...

    def reading(self, ends: dict[Place, int]) -> Reading:
        """How it stands."""
        ...


class Exposition(Collector):
    """All metrics at one moment. `reading` is what was read then, `stations` hold the counters."""

    def __init__(self, reading: Reading, stations: dict[str, Station]) -> None:
        self._reading, self._stations = reading, stations

    def collect(self) -> Iterator[Metric]:
        """As prometheus_client asks for it."""
        yield from self._pools()
        for name, help_, of in GAUGES:
            gauge = GaugeMetricFamily(PREFIX + name, help_, labels=("pool", "lane"))
            for pool, found in self._reading.pools.items():
                for lane, state in found.lanes.items():
                    value = of(state)
                    if value is not None:
                        gauge.add_metric((pool, lane), value)
            yield gauge
        for name, help_, count in COUNTERS:
            counter = CounterMetricFamily(PREFIX + name, help_, labels=("pool", "lane"))
            for pool, lane, signals in self._lanes():
                counter.add_metric((pool, lane), count(signals))
            yield counter
        for name, help_, label, counts in BY_NAME:
            counter = CounterMetricFamily(PREFIX + name, help_, labels=("pool", "lane", label))
            for pool, lane, signals in self._lanes():
                for code, number in sorted(counts(signals).items()):
                    counter.add_metric((pool, lane, code), number)
            yield counter
        for name, help_, of_lane in HISTOGRAMS:
            family = HistogramMetricFamily(PREFIX + name, help_, labels=("pool", "lane"))
            for pool, lane, signals in self._lanes():
                # A lane that was never used would double the text.
                if any((histogram := of_lane(signals)).counts):
                    family.add_metric((pool, lane), buckets(histogram), histogram.total)
            yield family

    def _pools(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily(PREFIX + "slots", "Slots of this worker", labels=("pool",))
        rate = GaugeMetricFamily(
            PREFIX + "full_rate_tokens_per_second", "Tokens a second with all slots busy, as measured", labels=("pool",)
        )
        repeated = CounterMetricFamily(
            PREFIX + "repeated_tokens", "Tokens computed again because of preemptions", labels=("pool",)
        )
        reserved = GaugeMetricFamily(PREFIX + "reserved_slots", "Slots kept for interactive callers", labels=("pool",))
        for pool, found in self._reading.pools.items():
            slots.add_metric((pool,), found.slots)
            rate.add_metric((pool,), found.tokens_per_s)
            reserved.add_metric((pool,), found.reserved)
        for pool, station in self._stations.items():
            repeated.add_metric((pool,), station.repeated_tokens)
        yield from (slots, rate, reserved, repeated)

    def _lanes(self) -> Iterator[tuple[str, str, LaneSignals]]:
        for pool, station in self._stations.items():
            for lane, signals in station.signals.lanes.items():
                yield pool, lane, signals


def buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Cumulative counts by upper bound, as Prometheus has them."""
    return list(zip([*map(str, histogram.bounds), "+Inf"], accumulate(histogram.counts), strict=True))


class Endpoint:
    """The listener. It runs in the worker's event loop, and asks Kafka for nothing but where our logs end."""

    def __init__(self, worker: Subject, ends: Ends) -> None:
        self._worker, self._ends = worker, ends
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/signals", self._signals)
        self._runner = web.AppRunner(app, access_log=None)

    async def open(self, host: str, port: int) -> None:
        """Listen, if `port` is not 0. A port that is taken is no reason not to serve work."""
        if not port:
            return
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            log.error("no signals will be told: %s", error)

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _read(self) -> Reading:
        return self._worker.reading(await self._ends.of(self._worker.places))

    async def _metrics(self, _request: web.Request) -> web.Response:
        registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(Exposition(await self._read(), self._worker.stations))
        return web.Response(body=generate_latest(registry), headers={"content-type": TEXT})

    async def _signals(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(await self._read()), content_type="application/json")
