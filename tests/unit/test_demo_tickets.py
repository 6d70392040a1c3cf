"""The demo's dataset, held against our own validation and configuration; and what the demo accepts as a result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from examples import tickets
from examples.tickets import Answer, Unmet
from ingest import configuration as configurations
from ingest.batch_validation import Validation
from streams.moderation import MASK, Moderator

CONFIG = Path(__file__).parents[2] / "config"
TEXT = tickets.FILE.read_text(encoding="utf-8")
ROWS = [json.loads(line) for line in TEXT.splitlines()]


@pytest.fixture(scope="module")
def configuration():
    return configurations.read(CONFIG)


def test_the_file_is_a_valid_batch_of_sixty_lines_for_a_configured_model(configuration):
    validation = Validation("/v1/chat/completions", configuration.models.__contains__)
    for line in tickets.FILE.read_bytes().splitlines():
        validation.add(line)
    assert validation.finish() == (60, "smollm2-135m", ())
    assert all(row["body"]["temperature"] == 0 and 16 <= row["body"]["max_tokens"] <= 24 for row in ROWS)


def test_one_ticket_is_blocked_and_one_is_masked_by_the_rules_as_configured(configuration):
    moderator = Moderator(configuration.rule_sets[configuration.tenants["acme"].moderation])
    outcomes = [moderator.check(ticket.text, "request") for ticket in tickets.read(TEXT)]
    assert sum(o.blocked_by is not None for o in outcomes) == tickets.BLOCKED
    assert [o.text for o in outcomes if o.blocked_by is None and o.found] == [
        f"I paid with my card {MASK} and the order is still marked unpaid."
    ]


def test_one_ticket_cannot_fit_the_window_and_the_others_must(configuration):
    model = configuration.models["smollm2-135m"]
    sizes = sorted(sum(len(m["content"].encode()) for m in row["body"]["messages"]) for row in ROWS)
    # A token of digits and times is about two bytes long; no token is shorter than one.
    assert sizes[-1] > 4 * model.max_input_tokens
    assert sizes[-2] < model.max_input_tokens / 2


def test_repeats_are_bodies_seen_before():
    bodies = [json.dumps(row["body"], sort_keys=True) for row in ROWS]
    found = tickets.read(TEXT)
    assert sum(ticket.repeats for ticket in found) == len(bodies) - len(set(bodies)) == 7
    assert [t.custom_id for t in found][:2] == ["ticket-01", "ticket-02"]


def _line(custom_id, status=200, error=None, **body):
    response = None if error else {"status_code": status, "request_id": "r", "body": body}
    return json.dumps({"id": "b", "custom_id": custom_id, "response": response, "error": error})


def test_answers_are_told_by_what_became_of_them():
    said = {"choices": [{"message": {"content": "Hello."}}]}
    lines = [
        _line("a", model="smollm2-135m", **said),
        _line("b", model="from-security-guard", **said),
        _line("c", 400, **{"error": {"message": "Too long.", "code": "context_length_exceeded"}}),
        _line("d", error={"message": "Expired.", "code": "batch_expired"}),
    ]
    assert tickets.answers("\n".join(lines) + "\n") == [
        Answer("a", "completed", "Hello."),
        Answer("b", "blocked", "Hello."),
        Answer("c", "context_length_exceeded", "Too long."),
        Answer("d", "batch_expired", "Expired."),
    ]


def _result():
    output = [Answer(t.custom_id, "completed", "") for t in tickets.read(TEXT)]
    output[30] = Answer("ticket-31", "blocked", "")
    errors = [Answer(output.pop(44).custom_id, tickets.TOO_LONG, "")]
    return output, errors


def test_a_result_as_the_dataset_was_written_passes():
    tickets.check(tickets.read(TEXT), *_result())


def _lose(output, errors):
    del output[3]


def _double(output, errors):
    output.append(output[3])


def _invent(output, errors):
    output.append(Answer("ticket-99", "completed", ""))


def _swap(output, errors):
    output[0], output[1] = output[1], output[0]


def _let_through(output, errors):
    output[30] = Answer("ticket-31", "completed", "")


def _fail_one(output, errors):
    output[5] = Answer("ticket-06", "upstream_failed", "")


def _misfile(output, errors):
    output.insert(44, errors.pop())


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_lose, "1 of 60 lines have no result: ticket-04"),
        (_double, "twice: ticket-04"),
        (_invent, "nobody asked for, or twice: ticket-99"),
        (_swap, "the output file is not in the order"),
        (_let_through, "they ended as 59 completed, 1 context_length_exceeded"),
        (_fail_one, "1 upstream_failed"),
        (_misfile, "the error file should have 1 line, it has 0"),
    ],
)
def test_anything_else_is_said(spoil, said):
    output, errors = _result()
    spoil(output, errors)
    with pytest.raises(Unmet, match=said):
        tickets.check(tickets.read(TEXT), output, errors)
