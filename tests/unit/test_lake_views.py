"""Every view of the lake against an answer worked out in plain Python from the same rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from streams import lake, manifest
from tests import lake_rows

VIEWS = Path(lake.__file__).parent / "views"
MICRO = Decimal("0.000001")


@pytest.fixture(scope="module")
def db():
    made = duckdb.connect()
    lake_rows.fill(made, rows=3_000)
    return made


def table(db, name):
    """Rows of a table as dictionaries."""
    result = db.execute(f'SELECT * FROM "{name}"')
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def view(db, name, *keys):
    """Rows of a view, by the values of `keys`, which name a row."""
    result = db.execute((VIEWS / f"{name}.sql").read_text())
    names = [column[0] for column in result.description]
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    found = {tuple(row.pop(key) for key in keys): row for row in rows}
    assert len(found) == len(rows) > 0
    return found


def groups(rows, *keys):
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[key] for key in keys)].append(row)
    return found


def rank(values, percent):
    """Nearest rank, as the textbook has it."""
    ordered = sorted(values)
    return ordered[-(-len(ordered) * percent // 100) - 1] if ordered else None


def tokens(row):
    return row["input_tokens"] + row["output_tokens"]


def test_there_is_a_test_for_every_view():
    tested = {name.removeprefix("test_view_") for name in globals() if name.startswith("test_view_")}
    assert tested == {path.stem for path in VIEWS.glob("*.sql")}


def test_view_invoice(db):
    expected = {
        (t, m, day, "usage"): {
            "tokens": sum(map(tokens, rows)),
            "cost": sum(r["cost_micros"] for r in rows) * MICRO,
        }
        for (t, m, day), rows in groups(table(db, "usage"), "tenant", "model", "dt").items()
    }
    for (t, day, kind), rows in groups(table(db, "credits"), "tenant", "dt", "kind").items():
        expected[t, "", day, kind] = {"tokens": 0, "cost": -sum(r["amount_micros"] for r in rows) * MICRO}
    assert view(db, "invoice", "tenant", "model", "day", "kind") == expected
    assert {key[3] for key in expected} == {"usage", "credit", "refund"}


def test_view_reconciliation(db):
    billed, wasted = Counter(), Counter()
    for row in table(db, "usage"):
        billed[row["tenant"], row["pool"], row["dt"]] += tokens(row)
    for row in table(db, "waste"):
        wasted[row["tenant"], row["pool"], row["dt"]] += tokens(row)
    expected = {
        key: {"billed_tokens": billed[key], "wasted_tokens": wasted[key], "engine_tokens": billed[key] + wasted[key]}
        for key in billed.keys() | wasted.keys()
    }
    assert view(db, "reconciliation", "tenant", "pool", "day") == expected


def test_view_latency(db):
    done = [r for r in table(db, "usage") if r["status"] == "completed" and r["cache"] == "miss"]
    expected = {
        key: {"requests": len(rows)}
        | {
            f"{name}_p{percent}": rank([r[f"{name}_ms"] for r in rows], percent)
            for name in ("queue", "first_token", "total")
            for percent in (50, 95, 99)
        }
        for key, rows in groups(done, "lane", "model", "dt").items()
    }
    assert view(db, "latency", "lane", "model", "day") == expected


def busy_ms(rows):
    """Milliseconds in which a worker ran something, told one by one."""
    moments = set()
    for row in rows:
        end = round(row["completed_at"].timestamp() * 1000)
        moments.update((row["worker"], ms) for ms in range(end - row["total_ms"] + row["queue_ms"], end))
    return len(moments)


def test_view_unit_economics(db):
    ran = groups([r for r in table(db, "usage") if r["worker"]], "pool", "dt")
    wasted = groups(table(db, "waste"), "pool", "dt")
    found = view(db, "unit_economics", "pool", "day")
    assert found.keys() == ran.keys()
    for key, rows in ran.items():
        busy, billed = busy_ms(rows), sum(map(tokens, rows))
        cost = sum(r["cost_micros"] for r in rows)
        output = sum(r["output_tokens"] for r in rows)
        assert found[key] == {
            "requests": len(rows),
            "billed_tokens": billed,
            "output_tokens": output,
            "prefix_tokens": sum(r["cached_tokens"] for r in rows),
            "wasted_tokens": sum(map(tokens, wasted.get(key, ()))),
            "busy_seconds": pytest.approx(busy / 1000),
            "tokens_per_gpu_second": pytest.approx(billed / busy * 1000),
            "output_tokens_per_gpu_second": pytest.approx(output / busy * 1000),
            "cost": cost * MICRO,
            "cost_per_gpu_hour": pytest.approx(cost / 1e6 / (busy / 3_600_000)),
        }


def test_moments_of_requests_that_overlap_count_once(db):
    alone = sum(r["total_ms"] - r["queue_ms"] for r in table(db, "usage") if r["worker"])
    busy = sum(row["busy_seconds"] for row in view(db, "unit_economics", "pool", "day").values())
    assert 0 < busy < alone / 1000


def test_view_savings(db):
    expected = {}
    for key, rows in groups(table(db, "usage"), "tenant", "model", "dt").items():
        saved = Counter()
        for r in rows:
            kind = "batch" if r["cache"] == "miss" and r["lane"] == "batch" else r["cache"]
            saved[kind] += r["list_micros"] - r["cost_micros"]
        expected[key] = {
            "requests": len(rows),
            "hits": sum(r["cache"] == "hit" for r in rows),
            "followers": sum(r["cache"] == "follower" for r in rows),
            "shared_tokens": sum(r["shared_input_tokens"] + r["shared_output_tokens"] for r in rows),
            "prefix_tokens": sum(r["cached_tokens"] for r in rows),
            "cache_saving": saved["hit"] * MICRO,
            "dedupe_saving": saved["follower"] * MICRO,
            "batch_discount": saved["batch"] * MICRO,
            "cost": sum(r["cost_micros"] for r in rows) * MICRO,
        }
    assert view(db, "savings", "tenant", "model", "day") == expected


def test_view_moderation(db):
    asked = groups(table(db, "usage"), "tenant", "dt")
    found = groups(table(db, "audit"), "tenant", "stage", "rule", "action", "dt")
    expected = {}
    for key, rows in found.items():
        of_tenant = asked.get((key[0], key[4]), [])
        expected[key] = {
            "requests": len({r["request_id"] for r in rows}),
            "matches": sum(r["matches"] for r in rows),
            "tenant_requests": len(of_tenant),
            "tenant_blocked": sum(r["status"] == "blocked" for r in of_tenant),
            "percent": pytest.approx(100 * len(rows) / len(of_tenant)) if of_tenant else None,
        }
    assert view(db, "moderation", "tenant", "stage", "rule", "action", "day") == expected


def test_view_batch_completion(db):
    rows = table(db, "batches")
    once = {(r["tenant"], r["batch_id"]): r for r in rows}
    assert len(once) < len(rows), "no batch is there twice: this shows nothing"
    expected = {}
    for key, ended in groups(once.values(), "tenant", "window_s", "dt").items():
        used = [100 * (r["ended_at"] - r["created_at"]) / timedelta(seconds=key[1]) for r in ended]
        kinds = Counter(r["status"] for r in ended)
        lines = ("lines", "completed_lines", "failed_lines", "expired_lines", "cancelled_lines")
        expected[key] = (
            {"batches": len(ended)}
            | {kind: kinds[kind] for kind in ("completed", "expired", "failed", "cancelled")}
            | {name: sum(r[name] for r in ended) for name in lines}
            | {f"window_percent_p{p}": pytest.approx(rank(used, p)) for p in (50, 95)}
            | {"window_percent_max": pytest.approx(max(used))}
        )
    assert view(db, "batch_completion", "tenant", "window_s", "day") == expected


def window(at, per):
    """When the window of a moment began."""
    zero = {"second": {}, "minute": {"second": 0}, "hour": {"second": 0, "minute": 0}}
    zero["day"] = zero["hour"] | {"hour": 0}
    zero["month"] = zero["day"] | {"day": 1}
    return at.replace(microsecond=0, **zero[per])


def amount(row, counts):
    if counts == "requests":
        return int(row["status"] in ("completed", "blocked", "interrupted") or tokens(row) > 0)
    return tokens(row) if counts == "total_tokens" else row[counts]


def test_view_quota(db):
    newest = {}
    for row in table(db, "limits"):
        newest[row["tenant"]] = max(newest.get(row["tenant"], row["at"]), row["at"])
    limits = [r for r in table(db, "limits") if r["at"] == newest[r["tenant"]] and r["per"]]
    expected = {}
    for limit in limits:
        used = Counter()
        for r in table(db, "usage"):
            if r["tenant"] == limit["tenant"] and limit["model"] in ("", r["model"], r["requested_model"]):
                used[window(r["received_at"], limit["per"])] += amount(r, limit["counts"])
        by_day = defaultdict(list)
        for at, spent in used.items():
            by_day[at.date()].append(spent)
        for day, spent in by_day.items():
            expected[limit["tenant"], limit["limit_id"], day] = {
                "counts": limit["counts"],
                "per": limit["per"],
                "most": limit["most"],
                "windows": len(spent),
                "used": sum(spent),
                "fullest": max(spent),
                "fullest_percent": pytest.approx(100 * max(spent) / limit["most"]),
                "windows_above_90_percent": sum(10 * s >= 9 * limit["most"] for s in spent),
            }
    assert view(db, "quota", "tenant", "limit_id", "day") == expected


def test_view_comparison(db):
    attempts = [
        r
        | {
            "kind": "request",
            "good": r["status"] == "completed",
            "bad": r["status"] in ("failed", "interrupted", "expired"),
        }
        for r in table(db, "usage")
        if r["pool"]
    ]
    for r in table(db, "shadows"):
        good = r["outcome"] == "ok"
        shown = {"requested_model": r["model"], "model": r["shadow_model"], "cohort": "", "route_step": 0}
        attempts.append(r | shown | {"kind": "shadow", "good": good, "bad": not good, "cost_micros": 0})
    keys = ("requested_model", "kind", "cohort", "route_step", "model", "pool")
    expected = {}
    for key, rows in groups(attempts, *keys, "dt").items():
        good = [r for r in rows if r["good"]]
        expected[key] = {
            "requests": len(rows),
            "completed": len(good),
            "errors": sum(r["bad"] for r in rows),
            "error_percent": pytest.approx(100 * sum(r["bad"] for r in rows) / len(rows)),
            "first_token_p95": rank([r["first_token_ms"] for r in good], 95),
            "total_p50": rank([r["total_ms"] for r in good], 50),
            "total_p95": rank([r["total_ms"] for r in good], 95),
            "tokens": sum(map(tokens, rows)),
            "cost": sum(r["cost_micros"] for r in rows) * MICRO,
        }
    assert view(db, "comparison", *keys, "day") == expected
    assert {"request", "shadow"} == {key[1] for key in expected} and {0, 1} == {key[3] for key in expected}


def test_made_up_rows_are_the_same_every_time(db):
    again = duckdb.connect()
    lake_rows.fill(again, rows=3_000)
    for made in lake.TABLES:
        assert table(db, made.name) == table(again, made.name)


def test_made_up_files_have_every_row_in_the_hour_of_its_time(db, tmp_path):
    lake_rows.write(db, tmp_path)
    read = duckdb.connect()
    for made in lake.TABLES:
        files = sorted(str(p) for p in (tmp_path / made.name).rglob("part-*"))
        assert all(manifest.is_part(Path(f).name) for f in files)
        read.execute(lake.view(made, files))
        columns = f'SELECT COLUMNS(*)::VARCHAR FROM "{made.name}" ORDER BY ALL'
        assert read.execute(columns).fetchall() == db.execute(columns).fetchall()
        assert read.execute(
            f'SELECT count(*) FROM "{made.name}" WHERE dt <> CAST("{made.time}" AS DATE)'
        ).fetchone() == (0,)


def test_rows_in_bulk_are_spread_over_their_hours(tmp_path):
    files = list(lake_rows.bulk(tmp_path, 2_400, 1))
    db = duckdb.connect()
    db.execute(lake.view(lake.TABLES[0], [str(f) for f in files]))
    wrong = "count(CASE WHEN dt <> CAST(completed_at AS DATE) OR hour <> extract(hour FROM completed_at) THEN 1 END)"
    query = f"SELECT count(*), count(DISTINCT request_id), {wrong}, count(DISTINCT hour) FROM usage"
    assert db.execute(query).fetchall() == [(2_400, 2_400, 0, 24)]
