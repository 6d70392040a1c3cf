"""What the demo finds of its run in the Parquet files, by the same DuckDB that `make sql` uses."""

from __future__ import annotations

import csv
import io
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Final

from examples import tickets
from examples.tickets import Unmet

# Files of the lake are finished at checkpoints ten seconds apart; the rest is for a busy machine.
TIMEOUT_S: Final = 90.0
POLL_S: Final = 2.0
# Not `SELECT *`: analysts read these columns by name too.
TABLE: Final = """
SELECT tenant, model, lane, status, cache, count(*) AS requests, sum(input_tokens) AS input_tokens,
  sum(output_tokens) AS output_tokens, sum(cost_micros) AS cost_micros
FROM usage WHERE {mine} GROUP BY ALL ORDER BY ALL"""
FACTS: Final = """
WITH mine AS (SELECT * FROM usage WHERE {mine}), batch AS (SELECT * FROM mine WHERE batch_id <> ''),
  findings AS (SELECT action FROM audit JOIN batch USING (tenant, request_id) WHERE stage = 'request')
SELECT (SELECT count(*) FROM mine) AS rows,
  (SELECT count(DISTINCT (tenant, request_id)) FROM mine) AS requests,
  (SELECT count(DISTINCT line) FROM batch) AS lines,
  (SELECT count(*) FROM batch WHERE status = 'completed') AS completed,
  (SELECT count(*) FROM batch WHERE status = 'blocked') AS blocked,
  (SELECT count(*) FROM batch WHERE status = 'refused') AS refused,
  (SELECT count(*) FROM batch WHERE cache IN ('hit', 'follower')) AS shared,
  (SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM batch) AS tokens,
  (SELECT count(*) FROM mine JOIN responses USING (tenant, request_id)) AS responses,
  (SELECT count(*) FROM findings WHERE action = 'block') AS blocks,
  (SELECT count(*) FROM findings WHERE action = 'mask') AS masks"""

Row = dict[str, str]


def ours(batch_id: str, request_ids: Sequence[str]) -> str:
    """The condition that picks the rows of this run."""
    listed = ", ".join("'" + i.replace("'", "''") + "'" for i in request_ids)
    return f"(batch_id = '{batch_id}' OR request_id IN ({listed}))"


def expected(lines: int, repeated: int, others: int, batch_tokens: int) -> dict[str, int]:
    """FACTS of a run with a batch of `lines`, `repeated` of which are repeats, and `others` beside it.

    `shared` is a lower bound: on a second run every line may be a hit.
    """
    return {
        "rows": lines + others,
        "requests": lines + others,
        "lines": lines,
        "completed": lines - tickets.BLOCKED - tickets.REFUSED,
        "blocked": tickets.BLOCKED,
        "refused": tickets.REFUSED,
        "shared": repeated,
        "tokens": batch_tokens,
        "responses": lines + others,
        "blocks": tickets.BLOCKED,
        "masks": tickets.MASKED,
    }


def complete(facts: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """Whether everything has arrived that was waited for (nothing says yet that it is right)."""
    return all(facts[name] >= wanted[name] for name in ("rows", "responses", "blocks", "masks"))


def check(facts: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    """Raises Unmet where the Parquet files say something else than was expected."""
    wrong = [n for n in wanted if (facts[n] < wanted[n] if n == "shared" else facts[n] != wanted[n])]
    if wrong:
        raise Unmet("in the Parquet files: " + "; ".join(f"{n} is {facts[n]}, not {wanted[n]}" for n in wrong))


def query(text: str) -> list[Row]:
    """The rows of a query, as `make sql` gives them. Raises Unmet."""
    command = [sys.executable, "-m", "streams.lake_sql"]
    done = subprocess.run(command, env={**os.environ, "Q": text}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Unmet(done.stderr.strip() or f"the query failed with status {done.returncode}")
    return list(csv.DictReader(io.StringIO(done.stdout)))


def wait(mine: str, wanted: Mapping[str, int]) -> dict[str, int]:
    """FACTS once they are complete. Raises Unmet if they are not within TIMEOUT_S."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        facts = {name: int(value) for name, value in query(FACTS.format(mine=mine))[0].items()}
        if complete(facts, wanted):
            return facts
        if time.monotonic() > deadline:
            missing = ", ".join(f"{facts[n]} of {wanted[n]} {n}" for n in ("rows", "responses", "blocks", "masks"))
            raise Unmet(f"after {TIMEOUT_S:.0f} s the Parquet files have {missing}: look at `make logs S=taskmanager`")
        time.sleep(POLL_S)
