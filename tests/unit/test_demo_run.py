"""The demo's waiting and showing, with a client that answers from a list."""

from __future__ import annotations

import io
import threading
from types import SimpleNamespace

import httpx
import openai
import pytest
from rich.console import Console

from examples import board, calls, demo, report, submission
from examples.calls import PLAN, Call
from examples.tickets import Answer, Unmet


def _batch(status, completed=0, failed=0, errors=None):
    counts = SimpleNamespace(completed=completed, failed=failed)
    return SimpleNamespace(status=status, request_counts=counts, errors=errors)


class Client:
    """Stands for the SDK: each `retrieve` gives the next of these."""

    def __init__(self, *states):
        self._states = iter(states)
        self.batches = SimpleNamespace(retrieve=lambda _id: next(self._states))


class NoWait(threading.Event):
    """Not set, and never waits."""

    def wait(self, timeout=None):
        return self.is_set()


def test_a_batch_is_followed_to_its_end():
    shown = []
    client = Client(_batch("validating"), _batch("in_progress", 20, 1), _batch("completed", 59, 1))
    ended = submission.follow(client, "b", 60, lambda *a: shown.append(a), NoWait())
    assert ended.status == "completed"
    assert shown == [(0, 60, "validating"), (21, 60, "in_progress"), (60, 60, "completed")]


def test_a_batch_that_fails_says_why():
    fault = SimpleNamespace(line=3, message="The line is empty.")
    client = Client(_batch("failed", errors=SimpleNamespace(data=[fault])))
    with pytest.raises(Unmet, match=r"b ended as failed: line 3: The line is empty\."):
        submission.follow(client, "b", 60, lambda *a: None, NoWait())


def test_following_stops_when_the_run_has_failed_elsewhere():
    stop = NoWait()
    stop.set()
    with pytest.raises(Unmet, match="not awaited"):
        submission.follow(Client(_batch("in_progress")), "b", 60, lambda *a: None, stop)


def test_a_batch_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(submission, "TIMEOUT_S", -1.0)
    with pytest.raises(Unmet, match="b is in_progress, 7 of 60 lines, after"):
        submission.follow(Client(_batch("in_progress", 7)), "b", 60, lambda *a: None, NoWait())


def test_without_a_terminal_a_lane_has_a_line_for_each_tenth():
    out = io.StringIO()
    with board.Board(Console(file=out, width=100), {"batch": 60}) as shown:
        for done in range(61):
            shown.show("batch", done, 60, "in_progress")
        shown.stream("one\n")
        shown.stream("[b]two")
        shown.stream("", end=True)
    lines = [line.split("] ", 1)[1] for line in out.getvalue().splitlines()]
    assert [line.split()[1] for line in lines[:-1]] == [f"{n}/60" for n in range(0, 61, 6)]
    assert lines[-1] == "streamed: one [b]two"


def _calls(**changes):
    made = [
        Call("r", t, m, "hit" if i == 1 else "miss", 1, q if m == "echo" else "x") for i, (t, m, q) in enumerate(PLAN)
    ]
    for i, call in changes.items():
        made[int(i[1:])] = call
    return made


def test_calls_as_planned_pass_and_a_repeat_that_ran_again_does_not():
    calls.check(_calls())
    with pytest.raises(Unmet, match="should be a hit"):
        calls.check(_calls(c1=Call("r", "acme", "m", "miss", 1, "x")))
    with pytest.raises(Unmet, match="echo answered 'y'"):
        calls.check(_calls(c4=Call("r", "globex", "echo", "miss", 1, "y")))


def test_a_table_of_answers_keeps_the_first_and_all_that_did_not_complete():
    answers = [Answer(f"t{i}", "blocked" if i == 20 else "completed", "x") for i in range(30)]
    assert [a.custom_id for a in report.abridged(answers)] == ["t0", "t1", "t2", "t3", "t4", "t5", "t20"]


def test_an_answer_is_shown_on_one_line():
    assert report.short("a\n b   c") == "a b c"
    assert report.short("x" * 100, 10) == "x" * 9 + "…"


def test_what_the_sdk_raises_is_said_in_one_line():
    request = httpx.Request("GET", "http://127.0.0.1/v1")
    assert "make up" in demo.explain(openai.APIConnectionError(request=request))
    response = httpx.Response(401, request=request)
    assert "make apply" in demo.explain(openai.AuthenticationError("no", response=response, body=None))


def test_a_stack_that_is_down_ends_the_demo_with_one_line(monkeypatch, capsys):
    def fail(_self):
        raise openai.APIConnectionError(request=httpx.Request("GET", "http://127.0.0.1/v1"))

    monkeypatch.setattr(demo.Demo, "run", fail)
    assert demo.main() == 1
    assert capsys.readouterr().err.splitlines() == [
        "demo: the gateway cannot be reached: is the stack up? (`make up`, `make status`)"
    ]
