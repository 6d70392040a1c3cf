"""Confidence intervals of a ratio of percentiles, by resampling whole bursts (a block bootstrap). Pure.

Calls of one burst share its fate, so they are not independent samples; bursts are.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.bench.driver import percentile

RESAMPLES: Final = 1_000
SEED: Final = 5


class Ratio(NamedTuple):
    """An estimate and its 95% interval."""

    value: float
    low: float
    high: float


def ratio(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], p: float) -> Ratio:
    """The percentile `p` of `ours` over that of `theirs`; both are values by burst."""
    draw = random.Random(SEED)
    found = sorted(_share(_again(draw, ours), _again(draw, theirs), p) for _ in range(RESAMPLES))
    return Ratio(_share(ours, theirs, p), percentile(found, 0.025), percentile(found, 0.975))


def _again(draw: random.Random, bursts: Sequence[Sequence[float]]) -> list[Sequence[float]]:
    return draw.choices(bursts, k=len(bursts))


def _share(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]], p: float) -> float:
    return percentile([v for burst in ours for v in burst], p) / percentile([v for burst in theirs for v in burst], p)
