from __future__ import annotations

import pytest

from ingest import configuration
from ingest.documents import DocumentError, load

GOOD = """\
pools:
  echo: {engine: echo}
models:
  stable: {route: [echo]}
  candidate: {route: [echo]}
  chat:
    split:
      - {model: stable, weight: 90}
      - {model: candidate, weight: 10}
    canary:
      model: candidate
      max_error_percent: 5
"""


def fault(old: str, new: str) -> str:
    assert old in GOOD
    with pytest.raises(DocumentError) as caught:
        configuration.combine([load("models.yaml", GOOD.replace(old, new, 1))])
    return str(caught.value)


def test_a_canary_that_can_be_is_taken() -> None:
    canary = configuration.combine([load("models.yaml", GOOD)]).models["chat"].canary
    assert canary is not None
    assert (canary.model, canary.percentile, canary.min_requests, canary.window_ms) == ("candidate", 95, 20, 60_000)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("model: candidate\n", "model: gone\n", "models.yaml:11: models.chat.canary.model: a canary is one of"),
        ("      - {model: stable, weight: 90}\n", "", "models.yaml:10: models.chat.canary.model: a canary is one of"),
        ("weight: 90", "weight: 0", "models.yaml:11: models.chat.canary.model: without the canary"),
        ("max_error_percent: 5", "max_error_percent: 101", "models.yaml:10: models.chat.canary: percentages"),
        ("max_error_percent: 5", "percentile: 0", "models.yaml:10: models.chat.canary: percentages"),
        ("max_error_percent: 5", "min_requests: 0", "models.yaml:10: models.chat.canary: min_requests"),
        ("max_error_percent: 5", "window_ms: 10", "models.yaml:10: models.chat.canary: min_requests"),
        ("max_error_percent: 5", "max_ms: -1", "models.yaml:10: models.chat.canary: min_requests"),
        ("max_error_percent: 5", "max_ms: fast", "models.yaml:12: models.chat.canary.max_ms: Expected `int`"),
        ("max_error_percent: 5", "max_errors: 5", "models.yaml:12: models.chat.canary.max_errors: Object contains"),
        ("max_error_percent: 5", "rolled_back: no", "models.yaml:12: models.chat.canary.rolled_back: is written by"),
        ("      model: candidate\n", "", "models.yaml:10: models.chat.canary: Object missing required field"),
    ],
)
def test_one_that_cannot_be_is_one_line_with_its_place(old: str, new: str, expected: str) -> None:
    assert fault(old, new).startswith(expected)


def test_a_model_with_a_route_has_no_canary() -> None:
    text = GOOD.replace("stable: {route: [echo]}", "stable: {route: [echo], canary: {model: candidate}}")
    with pytest.raises(DocumentError, match="a canary is one of several shares"):
        configuration.combine([load("models.yaml", text)])
