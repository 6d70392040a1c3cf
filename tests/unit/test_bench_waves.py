"""The arithmetic of the waves benchmark."""

import random

import pytest

from schemas.config import ConfigDocument, Pool, Tenant, policy_of
from tests.bench import interval, waves
from tests.bench.visits import Visit, _tells
from tests.bench.waves import TTFT, Found


def test_equal_samples_have_a_ratio_of_one_with_an_interval_around_it() -> None:
    draw = random.Random(3)
    bursts = [[draw.lognormvariate(4, 0.3) for _ in range(100)] for _ in range(10)]
    found = interval.ratio(bursts, bursts, 0.99)
    assert found.value == 1.0
    assert found.low < 1.0 < found.high


def test_a_difference_that_is_there_is_outside_the_interval() -> None:
    draw = random.Random(3)
    alone = [[draw.lognormvariate(4, 0.3) for _ in range(100)] for _ in range(10)]
    beside = [[2 * draw.lognormvariate(4, 0.3) for _ in range(100)] for _ in range(10)]
    found = interval.ratio(beside, alone, 0.99)
    assert 1.0 < found.low < 2.0 < found.high


def test_bursts_that_differ_widen_the_interval() -> None:
    """Calls of a burst share its fate: ten bursts of a hundred calls are ten samples, not a thousand."""
    alike = [[float(v) for v in range(1, 101)] for _ in range(10)]
    apart = [[float(v * (1 + 9 * (burst % 2))) for v in range(1, 101)] for burst in range(10)]
    narrow, wide = interval.ratio(alike, alike, 0.5), interval.ratio(apart, alike, 0.5)
    assert wide.high - wide.low > 10 * (narrow.high - narrow.low)


def test_only_text_counts_as_a_token() -> None:
    assert _tells(b'{"choices":[{"delta":{"content":"word"}}]}')
    assert not _tells(b'{"choices":[{"delta":{"role":"assistant","content":""}}]}')
    assert not _tells(b'{"choices":[],"usage":{}}')
    assert not _tells(b"[DONE]")


def test_the_arranged_configuration_changes_the_pool_and_adds_tenants() -> None:
    pools = {"local": Pool(engine="echo"), "other": Pool(engine="echo")}
    before = ConfigDocument("v", {}, ("acme",), pools, {}, {}, {}, {"acme": Tenant()})
    after = waves.arranged(before, "local", "none")
    assert after.pools["local"].protection == "none"
    assert after.pools["other"] == before.pools["other"]
    assert set(after.tenants) == {"acme", *(waves.name_of(i) for i in range(waves.BATCHES + 1))}
    assert set(after.settings) == set(after.tenants)
    assert policy_of(after, waves.name_of(0)).limits == ()
    assert len(after.keys) == waves.BATCHES + 1


def found(ms: float, tokens: int) -> Found:
    return Found([[Visit(ms, ms / 10)] * 50] * 4, pause_tokens=tokens, pause_s=10.0, tokens=tokens, seconds=30.0)


def test_rows_compare_each_arrangement_with_alone() -> None:
    sides = {"alone": found(100, 0), "unprotected": found(2000, 900), "strict priority": found(300, 900)}
    rows = waves.result(sides | {"Millrace": found(110, 950), "batch alone": found(0, 1000)}, "").rows
    ours = next(row for row in rows if row.what.endswith("Millrace") and TTFT in row.what)
    assert (ours.value, ours.met) == (pytest.approx(1.1), True)
    assert "200 calls" in ours.note
    assert next(row for row in rows if row.what.endswith("unprotected") and TTFT in row.what).met
    assert next(row for row in rows if row.what.startswith("batch")).value == pytest.approx(0.95)


def test_a_load_that_needs_no_protection_is_said_to_miss() -> None:
    sides = {"alone": found(100, 0), "unprotected": found(200, 900), "strict priority": found(300, 900)}
    rows = waves.result(sides | {"Millrace": found(110, 950), "batch alone": found(0, 1000)}, "").rows
    assert not next(row for row in rows if row.what.endswith("unprotected") and TTFT in row.what).met
