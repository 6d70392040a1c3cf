"""Which partition a row belongs to, and when that is complete."""

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams import partition
from streams.partition import LATE, STRANGE, Partition


def ms(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("event", "appended", "folder"),
    [
        ("2026-11-02T09:59:59.999", "2026-11-02T10:09:59.999", "dt=2026-11-02/hour=09"),
        ("2026-11-02T09:59:59.999", "2026-11-02T10:10:00.000", "dt=2026-11-02/hour=24"),
        ("2026-11-02T23:59:59", "2026-11-03T00:00:01", "dt=2026-11-02/hour=23"),
        ("2026-11-02T23:59:59", "2026-11-09T23:59:59", "dt=2026-11-02/hour=24"),
        ("2026-11-02T23:59:59", "2026-11-10T00:00:00", "dt=2026-11-10/hour=25"),
        ("1970-01-01T00:00:00", "2026-11-10T00:00:00", "dt=2026-11-10/hour=25"),
        ("2026-11-02T11:00:00", "2026-11-02T10:00:00", "dt=2026-11-02/hour=11"),
        ("2026-11-02T11:00:00.001", "2026-11-02T10:00:00", "dt=2026-11-02/hour=25"),
    ],
)
def test_a_row_has_its_place(event, appended, folder):
    found = partition.of(ms(event), ms(appended))
    assert found.folder == folder and partition.parse(f"s3://b/usage/{folder}/part-1") == found


@given(st.integers(-(2**62), 2**62), st.integers(0, 10**13))
def test_no_row_belongs_to_a_partition_that_was_closed_when_it_came(event_ms, appended_ms):
    assert partition.of(event_ms, appended_ms).closes_ms > appended_ms


@given(st.integers(10**12, 2 * 10**12), st.integers(10**12, 2 * 10**12))
def test_a_row_is_in_the_day_of_its_time_unless_that_cannot_be(event_ms, appended_ms):
    found = partition.of(event_ms, appended_ms)
    day = datetime.fromtimestamp((appended_ms if found.hour == STRANGE else event_ms) / 1000, UTC).date()
    assert found.day == day


def test_each_kind_of_partition_closes():
    day = date(2026, 11, 2)
    assert Partition(day, 9).closes_ms == ms("2026-11-02T10:10:00")
    assert Partition(day, LATE).closes_ms == ms("2026-11-10T00:00:00")
    assert Partition(day, STRANGE).closes_ms == ms("2026-11-03T00:00:00")


def test_other_paths_name_no_partition():
    assert partition.parse("usage/dt=2026-11-02/") is None
