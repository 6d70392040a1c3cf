"""Limits on requests, judged from rows alone: for evidence without the work that was sent."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.oracle.question import WINDOW_MS, Record, identity
from tests.oracle.walk import COUNTED


def budgets(journal: Iterable[tuple[str, Record, int]], usage: Iterable[Record]) -> Iterable[str]:
    """No window of a limit on requests lets more through than its maximum; deferred lines count where they ran."""
    arrived: dict[tuple[str, str], int] = {}
    limits: defaultdict[str, list[str]] = defaultdict(list)
    for kind, r, at in journal:
        if kind == "Request":
            arrived.setdefault(identity(r), at)
        elif kind == "Policy":
            limits[r["tenant"]].append(json.dumps(json.loads(r["document"])["limits"]))
    counted = [r for r in usage if r["lane"] != "batch" and r["status"] in COUNTED]
    counted = [r for r in counted if r["attempt"] or r["cache"] in ("hit", "follower")]
    for tenant, published in limits.items():
        if len(set(published)) > 1:
            continue  # they changed on the way: the windows cannot be attributed from outside
        for limit in json.loads(published[0]):
            if limit["on"] != "requests" or limit["per"] not in WINDOW_MS:
                continue
            counts: Counter[int] = Counter()
            for r in counted:
                mine = r["tenant"] == tenant and limit["key"] in ("", r["key_id"])
                if mine and limit["model"] in ("", r["model"]):
                    at = arrived.get(identity(r), r["received_at"])
                    counts[at - at % WINDOW_MS[limit["per"]]] += 1
            for window, n in counts.items():
                if n > limit["max"]:
                    yield f"{tenant}: {n} requests in the window {window}, the limit is {limit['max']}"
