"""The dataset of the demo and what must become of it. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("tickets.jsonl")
# What the dataset was written for: a ticket with the phrase that config/moderation.yaml bans, one with a log file
# longer than the model's window of 1,024 tokens, one with the number of a payment card.
BLOCKED: Final = 1
REFUSED: Final = 1
MASKED: Final = 1
GUARD: Final = "from-security-guard"
TOO_LONG: Final = "context_length_exceeded"


class Unmet(Exception):
    """Something the demo promises did not happen; the message is one line for its reader."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """A line of the input file. `repeats` says whether an earlier line has the same body."""

    custom_id: str
    text: str
    repeats: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """A line of the output or the error file. `status` is completed or blocked, or the code of the error."""

    custom_id: str
    status: str
    text: str


def read(data: str) -> list[Ticket]:
    """The tickets of an input file, in order."""
    tickets: list[Ticket] = []
    seen: set[str] = set()
    for row in map(json.loads, data.splitlines()):
        body = json.dumps(row["body"], sort_keys=True)
        tickets.append(Ticket(row["custom_id"], row["body"]["messages"][-1]["content"], body in seen))
        seen.add(body)
    return tickets


def answers(output: str) -> list[Answer]:
    """The lines of an output file or an error file, in order."""
    return [_answer(json.loads(row)) for row in output.splitlines()]


def _answer(row: dict[str, Any]) -> Answer:
    error, body = row["error"], (row["response"] or {}).get("body", {})
    if error is None and (choices := body.get("choices")):
        status = "blocked" if body.get("model") == GUARD else "completed"
        return Answer(row["custom_id"], status, choices[0]["message"]["content"])
    error = error or body.get("error", {})
    return Answer(row["custom_id"], str(error.get("code")), str(error.get("message")))


def check(tickets: Sequence[Ticket], output: Sequence[Answer], errors: Sequence[Answer]) -> None:
    """Raises Unmet unless every ticket is accounted for once, in input order, and as the dataset was written."""
    order = {ticket.custom_id: i for i, ticket in enumerate(tickets)}
    counts = Counter(answer.custom_id for answer in (*output, *errors))
    if lost := [i for i in order if i not in counts]:
        raise Unmet(f"{len(lost)} of {len(order)} lines have no result: {_some(lost)}")
    if extra := [i for i, n in counts.items() if n > 1 or i not in order]:
        raise Unmet(f"results that nobody asked for, or twice: {_some(extra)}")
    for name, answered in (("output", output), ("error", errors)):
        if sorted(answered, key=lambda a: order[a.custom_id]) != list(answered):
            raise Unmet(f"the {name} file is not in the order of the input")
    statuses = Counter(answer.status for answer in (*output, *errors))
    expected = {"completed": len(order) - BLOCKED - REFUSED, "blocked": BLOCKED, TOO_LONG: REFUSED}
    if dict(statuses) != expected:
        raise Unmet(f"the lines should have ended as {_count(expected)}; they ended as {_count(statuses)}")
    if len(errors) != REFUSED:
        raise Unmet(f"the error file should have {REFUSED} line, it has {len(errors)}")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def _count(statuses: dict[str, int]) -> str:
    return ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))
