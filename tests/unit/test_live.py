"""What the live view counts: minutes, tenants, batches."""

from __future__ import annotations

from streams import progress

NOW_MS = 1_700_000_000_000


def _usage(tenant="acme", at_ms=NOW_MS, tokens=5, lane="interactive", batch_id=""):
    return {
        "tenant": tenant,
        "lane": lane,
        "batch_id": batch_id,
        "completed_at": at_ms,
        "input_tokens": tokens,
        "output_tokens": 2 * tokens,
        "cost_micros": 3,
    }


def _result(line, status="completed", http_status=200, batch_id="b1"):
    return {
        "batch_id": batch_id,
        "line": line,
        "status": status,
        "http_status": http_status,
        "input_tokens": 1,
        "output_tokens": 2,
    }


def test_a_window_is_a_minute_of_a_tenant():
    last_of_minute = NOW_MS - NOW_MS % 60_000 + 59_999
    windows = progress.fold_usage(
        [_usage(), _usage(at_ms=last_of_minute), _usage(at_ms=last_of_minute + 1), _usage("globex")], NOW_MS
    )
    minute = progress.minute_s(NOW_MS)
    assert minute % 60 == 0
    assert {key: window.requests for key, window in windows.items() if "/" not in key} == {
        f"usage:acme:{minute}": 2,
        f"usage:acme:{minute + 60}": 1,
        f"usage:globex:{minute}": 1,
    }
    assert windows[f"usage:acme:{minute}"].fields() == {
        "requests": 2,
        "input_tokens": 10,
        "output_tokens": 20,
        "cost_micros": 6,
    }


def test_a_lane_has_minutes_of_its_own_and_a_batch_has_one_sum():
    minute = progress.minute_s(NOW_MS)
    lines = [_usage(lane="batch", batch_id="batch_1", at_ms=NOW_MS + i * 60_000) for i in range(3)]
    windows = progress.fold_usage([_usage(), *lines], NOW_MS)
    assert {key: window.requests for key, window in windows.items() if "/" in key} == {
        f"usage:acme/interactive:{minute}": 1,
        f"usage:acme/batch:{minute}": 1,
        f"usage:acme/batch:{minute + 60}": 1,
        f"usage:acme/batch:{minute + 120}": 1,
        "usage:acme/batch_1": 3,
    }
    assert windows["usage:acme/batch_1"].cost_micros == 9


def test_what_is_too_old_to_be_shown_is_not_counted():
    old = NOW_MS - progress.WINDOW_KEPT_MS
    assert progress.fold_usage([_usage(at_ms=old - 1)], NOW_MS) == {}
    assert set(progress.fold_usage([_usage(at_ms=old)], NOW_MS)) == {
        progress.window_key("acme", old),
        progress.lane_key("acme", "interactive", old),
    }
    # A batch may run for a week, and is looked at afterwards.
    assert set(progress.fold_usage([_usage(at_ms=old - 1, batch_id="b")], NOW_MS)) == {progress.batch_key("acme", "b")}
    week = NOW_MS - progress.PROGRESS_KEPT_MS
    assert progress.fold_usage([_usage(at_ms=week - 1, batch_id="b")], NOW_MS) == {}


def test_a_window_expires_26_hours_after_its_minute_a_batch_8_days_after_its_last_line():
    windows = progress.fold_usage([_usage(batch_id="b", at_ms=NOW_MS + i) for i in (7, 0)], NOW_MS)
    minute = progress.minute_s(NOW_MS) * 1000 + 26 * 3_600_000
    assert windows[progress.window_key("acme", NOW_MS)].until_ms == minute
    assert windows[progress.lane_key("acme", "interactive", NOW_MS)].until_ms == minute
    assert windows[progress.batch_key("acme", "b")].until_ms == NOW_MS + 7 + 8 * 24 * 3_600_000


def test_a_line_is_completed_if_it_goes_to_the_output_file():
    results = [
        _result(1),
        _result(2, "blocked"),
        _result(3, "failed", 400),
        _result(4, "expired", 0),
        _result(5, "cancelled", 0),
        _result(6, "refused", 429),
        _result(1, batch_id="b2"),
    ]
    lines = progress.fold_results(results)
    assert [(line.line, line.completed) for line in lines["b1"]] == [
        (1, True),
        (2, True),
        (3, False),
        (4, False),
        (5, False),
        (6, False),
    ]
    assert [line.line for line in lines["b2"]] == [1]


def test_a_gap_is_what_was_committed_but_never_counted():
    assert not progress.has_gap({}, {})
    assert not progress.has_gap({"usage/0": 5}, {"usage/0": 5, "usage/1": 9})
    assert progress.has_gap({"usage/0": 6}, {"usage/0": 5})
    assert progress.has_gap({"usage/2": 1}, {"usage/0": 5})
