"""The second auditor agrees with admission, and with nobody who cheats."""

import random
from typing import Any

import pytest

from schemas import config
from tests.ledger_walk import walk
from tests.unit.world import T0, MemoryEngine, completion, configuration, engine, request

LIMITS = [
    {"on": "total_tokens", "per": "minute", "max": 120},
    {"on": "cost_micros", "per": "hour", "max": 900},
    {"on": "requests", "per": "day", "max": 150},
]


def storm(seed: int) -> tuple[list[tuple[str, Any, int]], MemoryEngine]:
    """A journal of four hundred calls, answered in any order, over more than an hour; and what became of it."""
    chance = random.Random(seed)
    e = engine(LIMITS)
    document = config.encode(config.policy_of(config.document(configuration(LIMITS)), "acme"))
    journal: list[tuple[str, Any, int]] = [("Policy", {"tenant": "acme", "document": document}, T0)]
    now, running = T0, []

    def step(kind: str, record: Any) -> None:
        journal.append((kind, record, now))
        e.step(kind, record, now)

    for _ in range(400):
        now += chance.randrange(20_000)
        r = request("word " * chance.randrange(1, 9), body={"max_tokens": chance.randrange(1, 20)}, deadline=T0 * 2)
        step("Request", r)
        running.append(r)
        while chance.random() < 0.5 and running:
            r = running.pop(chance.randrange(len(running)))
            counts = {"input_tokens": chance.randrange(9), "output_tokens": 1}
            step("Completion", completion(r, chance.choice(["ok", "ok", "failed"]), **counts))
    for r in running:
        step("Completion", completion(r, input_tokens=1, output_tokens=1))
    return journal, e


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_admission(seed: int):
    journal, e = storm(seed)
    found = walk("acme", journal, e.read("usage"))
    assert found.violations == [] and found.held == 0
    assert min(found.admitted, found.refused) > 20, "too little was decided"
    for (on, per), theirs in found.accounts.items():
        ours = e.tenant("acme").accounts[f"{on}/{per}//"]
        assert ours.window <= theirs.window  # admission begins a window when something is spent in it
        assert ours.window < theirs.window or ours.spent == theirs.spent
    assert found.accounts["requests", "day"].spent == e.tenant("acme").accounts["requests/day//"].spent > 100


@pytest.mark.parametrize("seed", range(5))
def test_a_verdict_that_was_turned_round_is_found(seed: int):
    journal, e = storm(seed)
    rows = e.read("usage")
    first = next(r for r in rows if r["status"] == "completed")
    refused = [
        {**r, "status": "refused", "error_code": "quota_exceeded", "attempt": ""} if r is first else r for r in rows
    ]
    assert any("there was room" in v for v in walk("acme", journal, refused).violations)
    turned = next(r for r in rows if r["error_code"] == "quota_exceeded")
    admitted = [{**r, "status": "completed", "error_code": "", "attempt": "x"} if r is turned else r for r in rows]
    assert any("beyond a limit" in v for v in walk("acme", journal, admitted).violations)


def test_a_hold_that_never_ends_is_found():
    journal, e = storm(1)
    unfinished = [entry for entry in journal if entry[0] != "Completion"]
    assert walk("acme", unfinished, e.read("usage")).held > 0
