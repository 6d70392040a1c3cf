"""What the gateway counts, for /metrics. Names follow OpenTelemetry's GenAI conventions where they have one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from starlette.requests import Request
from starlette.responses import Response

REGISTRY: Final = CollectorRegistry()
BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_duration: Final = Histogram(
    "gen_ai_server_request_duration_seconds",
    "From the arrival of a call to its last byte",
    ["operation", "status", "cache"],
    buckets=BUCKETS,
    registry=REGISTRY,
)
_first_token: Final = Histogram(
    "gen_ai_server_time_to_first_token_seconds",
    "From the arrival of a streamed call to its first byte",
    buckets=BUCKETS,
    registry=REGISTRY,
)
_gone: Final = Counter("millrace_gateway_hung_up", "Callers who left before their answer", registry=REGISTRY)
_waiting: Final = Gauge("millrace_gateway_waiting", "Calls that wait now", registry=REGISTRY)
_config_age: Final = Gauge("millrace_gateway_configured", "1 when a configuration is known", registry=REGISTRY)


@cache
def _duration_of(operation: str, status: int, cache_state: str) -> Histogram:
    """Looking labels up costs more than counting, and there are few combinations."""
    return _duration.labels(operation, str(status), cache_state)


def answered(operation: str, status: int, cache_state: str, seconds: float) -> None:
    """A call of `operation` (such as "chat.completions") ended after `seconds`."""
    _duration_of(operation, status, cache_state).observe(seconds)


def first_token(seconds: float) -> None:
    """A streamed answer began after `seconds`."""
    _first_token.observe(seconds)


def hung_up() -> None:
    """A caller left before the answer."""
    _gone.inc()


def watch(waiting: Callable[[], float], configured: Callable[[], float]) -> None:
    """Take the gauges from these functions, whenever somebody reads them."""
    _waiting.set_function(waiting)
    _config_age.set_function(configured)


async def route(_request: Request) -> Response:
    """GET /metrics"""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)
