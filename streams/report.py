"""`make report`: what an analyst wants to see of the last days, as one HTML file that needs nothing else.

python -m streams.report [--days 7] [--tenant T] [--out FILE]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path
from typing import Any, Final

import duckdb

from schemas.addresses import Addresses
from streams import charts, lake_sql
from streams.charts import OTHERS, Range, number

# More series than this are not told apart by colour.
SERIES: Final = 6
HOURLY_DAYS: Final = 2
PAGE: Final = Path(__file__).parent / "report.html"
Rows = list[tuple[Any, ...]]


class Data:
    """The lake's answers about the days from `first` on."""

    def __init__(self, db: duckdb.DuckDBPyConnection, first: datetime, until: datetime) -> None:
        self._db, self.first, self.until = db, first, until
        self.step = "hour" if until - first <= timedelta(days=HOURLY_DAYS) else "day"

    def ask(self, sql: str) -> Rows:
        """Rows of a query in which {days} is the condition on `dt` or `day`."""
        day = f"DATE '{self.first.date()}'"
        return self._db.execute(sql.format(dt=f"dt >= {day}", day=f"day >= {day}", step=self.step)).fetchall()

    def moments(self) -> list[datetime]:
        """The beginning of every column."""
        step = timedelta(hours=1) if self.step == "hour" else timedelta(days=1)
        at, found = self.first, []
        while at < self.until:
            found.append(at)
            at += step
        return found


def series(rows: Rows, moments: Sequence[datetime]) -> dict[str, list[float]]:
    """Values by name and moment from rows of (moment, name, value); the smallest together, as `others`."""
    places = {at.replace(tzinfo=None): i for i, at in enumerate(moments)}
    found = defaultdict[str, list[float]](lambda: [0.0] * len(moments))
    for at, name, value in rows:
        if (place := places.get(at)) is not None:
            found[name or "(none)"][place] += float(value)
    names = sorted(found, key=lambda n: -sum(found[n]))
    kept = {name: found[name] for name in names[:SERIES]}
    rest = names[SERIES:]
    if rest:
        kept[OTHERS] = [sum(found[n][i] for n in rest) for i in range(len(moments))]
    return kept


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """An HTML table; numbers stand right."""

    def cell(value: Any) -> str:
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.2f}" if isinstance(value, float) else str(value)
        return f"<td{right if isinstance(value, int | float) else ''}>{escape(shown)}</td>"

    right = ' class="n"'
    numeric = [isinstance(value, int | float) for value in rows[0]] if rows else [False] * len(head)
    top = "".join(f'<th scope="col"{right if n else ""}>{escape(h)}</th>' for h, n in zip(head, numeric, strict=True))
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def card(title: str, body: str, numbers: str = "", *, wide: bool = False) -> str:
    """One part of the page, with its numbers folded away."""
    folded = f"<details><summary>Numbers</summary>{numbers}</details>" if numbers else ""
    return f'<section class="card{" wide" if wide else ""}"><h2>{escape(title)}</h2>{body}{folded}</section>'


def nothing(what: str) -> str:
    """Said in the place of a chart without rows."""
    return f'<p class="none">No {escape(what)} in these days.</p>'


def over_time(data: Data, title: str, column: str, value: str) -> str:
    """A card of stacked columns of usage."""
    rows = data.ask(
        f"SELECT date_trunc('{{step}}', completed_at), {column}, sum({value}) FROM usage WHERE {{dt}} GROUP BY 1, 2"
    )
    moments = data.moments()
    found = series(rows, moments)
    if not any(map(sum, found.values())):
        return card(title, nothing("tokens"), wide=True)
    labels = [at.strftime("%H:00" if data.step == "hour" and at.hour else "%-d %b") for at in moments]
    numbers = table(["", *found], [[label, *(int(v[i]) for v in found.values())] for i, label in enumerate(labels)])
    return card(title, charts.columns(title, labels, found) + charts.legend(list(found)), numbers, wide=True)


def tiles(data: Data) -> str:
    """The few numbers at the top."""
    ((requests, tokens, micros, saved, blocked, bad),) = data.ask(
        "SELECT count(*), coalesce(sum(input_tokens + output_tokens), 0), coalesce(sum(cost_micros), 0), "
        "coalesce(sum(coalesce(list_micros, cost_micros) - cost_micros), 0), "
        "count(CASE WHEN status = 'blocked' THEN 1 END), "
        "count(CASE WHEN status IN ('failed', 'expired', 'interrupted') THEN 1 END) FROM usage WHERE {dt}"
    )
    shown = (
        ("Requests", f"{requests:,}"),
        ("Tokens billed", number(int(tokens))),
        ("Cost", f"{int(micros) / 1e6:,.2f}"),
        ("Saved", f"{int(saved) / 1e6:,.2f}"),
        ("Blocked", f"{blocked:,}"),
        ("Not answered", f"{bad:,}"),
    )
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in shown)
    return f'<dl class="tiles">{items}</dl>'


def cost(data: Data) -> str:
    """What each tenant owes."""
    rows = data.ask("SELECT tenant, sum(cost) FROM invoice WHERE {day} GROUP BY 1 ORDER BY 2 DESC")
    shown = [(tenant, max(0.0, float(owed)), f"{owed:,.6f}") for tenant, owed in rows[:12]]
    title = "Cost by tenant, less credits and refunds"
    body = charts.bars(title, shown) if shown else nothing("cost")
    return card(title, body, table(["tenant", "currency units"], [(t, str(c)) for t, c in rows]) if rows else "")


def latency(data: Data) -> str:
    """First token and whole answer by lane."""
    parts = []
    head, numbers = ("lane", "what", "requests", "p50", "p95", "p99"), []
    for column, name in (("first_token_ms", "first token"), ("total_ms", "whole answer")):
        rows = data.ask(
            f"SELECT lane, count(*), quantile_disc({column}, [0.5, 0.95, 0.99]) FROM usage "
            "WHERE {dt} AND status = 'completed' AND cache = 'miss' GROUP BY 1 ORDER BY 1"
        )
        found = [Range(lane, *map(float, quantiles)) for lane, _, quantiles in rows]
        numbers += [(lane, name, n, *map(int, quantiles)) for lane, n, quantiles in rows]
        title = f"Milliseconds to the {name}"
        parts.append(f"<h3>{title}</h3>{charts.ranges(title, found, 'ms') if found else nothing('answers')}")
    key = '<p class="key">● median  │ 95%  ○ 99% of the requests that an engine answered</p>'
    return card("Latency by lane", "".join(parts) + key, table(head, numbers) if numbers else "")


def savings(data: Data) -> str:
    """What cache, dedupe and batches saved."""
    ((cache, dedupe, batch, hits, followers, shared),) = data.ask(
        "SELECT coalesce(sum(cache_saving), 0), coalesce(sum(dedupe_saving), 0), coalesce(sum(batch_discount), 0), "
        "coalesce(sum(hits), 0), coalesce(sum(followers), 0), coalesce(sum(shared_tokens), 0) FROM savings WHERE {day}"
    )
    title = "Savings against the full price"
    rows = [
        ("answers from the cache", float(cache), f"{cache:,.6f}"),
        ("answers shared in flight", float(dedupe), f"{dedupe:,.6f}"),
        ("batch price", float(batch), f"{batch:,.6f}"),
    ]
    told = f"{int(hits):,} hits and {int(followers):,} followers; {number(int(shared))} tokens not run again."
    return card(title, f"{charts.bars(title, rows)}<p>{told}</p>")


def moderation(data: Data) -> str:
    """What the rules found."""
    rows = data.ask(
        "SELECT rule, stage, action, sum(requests), sum(matches) FROM moderation WHERE {day} "
        "GROUP BY 1, 2, 3 ORDER BY 4 DESC"
    )
    shown = [(f"{rule} ({action} {stage})", float(n), f"{int(n):,}") for rule, stage, action, n, _ in rows[:12]]
    title = "Requests in which moderation found something"
    body = charts.bars(title, shown) if shown else nothing("findings")
    numbers = [(*names, int(n), int(m)) for *names, n, m in rows]
    return card(title, body, table(("rule", "stage", "action", "requests", "matches"), numbers) if rows else "")


def engines(data: Data) -> str:
    """What each pool made of its time."""
    rows = data.ask(
        "SELECT pool, sum(requests)::BIGINT, sum(billed_tokens)::BIGINT, sum(wasted_tokens)::BIGINT, "
        "sum(busy_seconds), "
        "sum(billed_tokens) / nullif(sum(busy_seconds), 0), sum(cost)::DOUBLE / nullif(sum(busy_seconds), 0) * 3600 "
        "FROM unit_economics WHERE {day} GROUP BY 1 ORDER BY 3 DESC"
    )
    head = ("pool", "requests", "tokens billed", "wasted", "busy s", "tokens per GPU-second", "cost per GPU-hour")
    return card("Engines", table(head, rows) if rows else nothing("work of an engine"), wide=True)


def quotas(data: Data) -> str:
    """The limits that are nearest to being reached."""
    rows = data.ask(
        "SELECT tenant, limit_id, most, max(fullest)::BIGINT, max(fullest_percent), "
        "sum(windows_above_90_percent)::BIGINT "
        "FROM quota WHERE {day} GROUP BY 1, 2, 3 ORDER BY 5 DESC NULLS LAST LIMIT 12"
    )
    head = ("tenant", "limit", "most", "fullest window", "percent", "windows above 90%")
    return card("Quota", table(head, rows) if rows else nothing("limits"), wide=True)


def batches(data: Data) -> str:
    """How batches came through."""
    rows = data.ask(
        "SELECT tenant, window_s, sum(batches)::BIGINT, sum(completed)::BIGINT, sum(expired)::BIGINT, "
        "sum(lines)::BIGINT, sum(failed_lines)::BIGINT, max(window_percent_max) FROM batch_completion WHERE {day} "
        "GROUP BY 1, 2 ORDER BY 3 DESC"
    )
    head = ("tenant", "window s", "batches", "completed", "expired", "lines", "failed lines", "most of window %")
    return card("Batches", table(head, rows) if rows else nothing("batches"), wide=True)


def compared(data: Data) -> str:
    """Fallbacks, cohorts and shadows."""
    rows = data.ask(
        "SELECT requested_model, kind, cohort, route_step, model, pool, sum(requests)::BIGINT, "
        "sum(errors)::DOUBLE * 100 / sum(requests), max(total_p95) FROM comparison WHERE {day} "
        "GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4"
    )
    head = ("asked for", "kind", "cohort", "step", "model", "pool", "requests", "errors %", "worst day's p95 ms")
    body = table(head, rows) if rows else nothing("attempts")
    return card("Fallbacks, cohorts and shadows", body, wide=True)


def render(data: Data, tenant: str = "") -> str:
    """The page."""
    parts = [
        tiles(data),
        over_time(data, "Tokens by tenant", "tenant", "input_tokens + output_tokens"),
        over_time(data, "Tokens by model", "model", "input_tokens + output_tokens"),
        *(part(data) for part in (cost, savings, latency, moderation, engines, quotas)),
        batches(data),
        compared(data),
    ]
    whose = f" of {tenant}" if tenant else ""
    days = f"{data.first:%d %B %Y} to {data.until - timedelta(seconds=1):%d %B %Y}, UTC"
    text = PAGE.read_text()
    return (
        text.replace("{{title}}", escape(f"Millrace: usage{whose}"))
        .replace("{{days}}", days)
        .replace("{{parts}}", "\n".join(parts))
    )


def main() -> int:
    """Exit status: 0, or 1 after one line about what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m streams.report", description=__doc__)
    parser.add_argument("--days", type=int, default=7, help="the last so many days, today included")
    parser.add_argument("--tenant", default="", help="this tenant's rows only")
    parser.add_argument("--out", type=Path, help="report.html in the folder of the stack's state by default")
    args = parser.parse_args()
    addresses = Addresses.of(os.environ)
    until = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    out: Path = args.out or addresses.home / "report.html"
    try:
        data = Data(lake_sql.connect(addresses, args.tenant), until - timedelta(days=max(1, args.days)), until)
        out.write_text(render(data, args.tenant))
    except (duckdb.Error, OSError) as error:
        print(f"no report: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    print(out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
