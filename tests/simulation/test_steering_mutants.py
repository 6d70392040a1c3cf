"""Planted faults in the decisions over circuits and canaries: the simulation and its oracle must see each of them."""

import pytest

from streams import canary, circuit, steering
from streams.canary import Keep
from streams.steering import Steering
from tests.simulation.test_steering import outages, rollouts


def a_callers_mistake_counts(m):
    real = circuit.result_of
    m.setattr(circuit, "result_of", lambda o, c: "bad" if o == "invalid" else real(o, c))
    m.setattr(circuit, "IN_A_ROW", 2)


def too_much_work_counts(m):
    m.setattr(circuit, "BUSY", "")
    m.setattr(circuit, "IN_A_ROW", 2)


def a_row_is_never_broken(m):
    real = circuit.decide

    def decide(c, result, began, now):
        after, change = real(c, result, began, now)
        return (after._replace(row=c.row), change) if result == "good" and c.phase == "closed" else (after, change)

    m.setattr(circuit, "decide", decide)


def a_row_is_one_too_long(m):
    m.setattr(circuit, "IN_A_ROW", circuit.IN_A_ROW + 1)


def shares_do_not_count(m):
    m.setattr(circuit, "MIN_ATTEMPTS", 10**9)


def an_open_circuit_is_never_tried(m):
    m.setattr(circuit, "advance", lambda c, now: (c, "none"))


def a_pause_never_grows(m):
    m.setattr(circuit, "MAX_PAUSE_MS", circuit.FIRST_PAUSE_MS)


def a_pause_grows_for_ever(m):
    m.setattr(circuit, "MAX_PAUSE_MS", 10**9)


def any_end_closes_a_trial(m):
    real = circuit.decide
    m.setattr(circuit, "decide", lambda c, r, b, n: real(c, "good" if c.phase == "trial" and r == "bad" else r, b, n))


def attempts_of_the_outage_decide_the_trial(m):
    real = circuit.decide
    m.setattr(circuit, "decide", lambda c, r, b, n: real(c, r, n, n))


def only_the_first_tenant_is_told(m):
    real = Steering._changed
    m.setattr(Steering, "_changed", lambda *a: [t._replace(tenants=t.tenants[:1]) for t in real(*a)])


def a_new_tenant_is_not_told(m):
    real = Steering.configure

    def configure(self, document, published, now):
        first = self.document is None
        return [t for t in real(self, document, published, now) if first]

    m.setattr(Steering, "configure", configure)


def what_was_told_is_not_heard(m):
    """A controller that starts again forgets what is open, and tells nobody."""
    m.setattr(Steering, "hear", lambda self, notice: None)
    m.setattr(Steering, "tell_all", lambda self, now: [])


def a_pool_that_closed_is_forgotten(m):
    real = Steering._changed
    m.setattr(Steering, "_changed", lambda *a: [t for t in real(*a) if t.is_open])


def shadows_count(m):
    real = Steering.complete
    m.setattr(Steering, "complete", lambda self, e, at: real(self, e._replace(shadow_of=""), at))


def a_guards_verdict_counts(m):
    real = Steering.complete
    m.setattr(Steering, "complete", lambda self, e, at: real(self, e._replace(step=max(0, e.step)), at))


def errors_do_not_count(m):
    real = canary.end_of
    m.setattr(canary, "end_of", lambda *a: "neither" if real(*a) in ("failed", "saved") else real(*a))


def what_another_pool_saved_is_well(m):
    real = canary.end_of
    m.setattr(canary, "end_of", lambda *a: "good" if real(*a) == "saved" else real(*a))


def time_does_not_count(m):
    real = canary._counts
    m.setattr(canary, "_counts", lambda limits, end, took: real(limits, end, 0))


def a_few_are_enough(m):
    real = canary._exceeds
    m.setattr(canary, "_exceeds", lambda h, n, h0, n0, percent, least: real(h, n, h0, n0, percent, least - 1))


def one_more_is_needed(m):
    real = canary._exceeds
    m.setattr(canary, "_exceeds", lambda h, n, h0, n0, percent, least: real(h, n, h0, n0, percent, least + 1))


def a_common_cause_is_blamed_on_the_canary(m):
    real = canary._exceeds
    m.setattr(canary, "_exceeds", lambda h, n, h0, n0, percent, least: real(h, n, 0, 0, percent, least))


def what_failed_before_is_counted_again(m):
    real = canary.watch
    seen = []

    def watch(limits, since):
        if not seen:
            seen.append(real(limits, since))
        return seen[0]

    m.setattr(canary, "watch", watch)
    decide = canary.decide

    def kept(w, *rest):
        after, verdict = decide(w, *rest)
        seen[:] = [after]
        return after, verdict

    m.setattr(canary, "decide", kept)


def the_canary_is_never_judged(m):
    m.setattr(canary, "_judge", lambda w, now: Keep())


def the_sides_are_confused(m):
    real = canary.decide
    m.setattr(canary, "decide", lambda w, side, *rest: real(w, "stable" if side == "canary" else "canary", *rest))


def it_is_taken_back_again_and_again(m):
    m.setattr(steering, "_active", lambda d: [(n, x, x.canary) for n, x in d.models.items() if x.canary is not None])


def silence_says_nothing(m):
    real = circuit.result_of
    m.setattr(circuit, "result_of", lambda outcome, code: "neither" if code == circuit.SILENT else real(outcome, code))


CIRCUITS = [
    a_callers_mistake_counts, too_much_work_counts, a_row_is_never_broken, a_row_is_one_too_long, shares_do_not_count,
    an_open_circuit_is_never_tried, a_pause_never_grows, a_pause_grows_for_ever, any_end_closes_a_trial,
    attempts_of_the_outage_decide_the_trial, only_the_first_tenant_is_told, a_new_tenant_is_not_told,
    what_was_told_is_not_heard, a_pool_that_closed_is_forgotten, silence_says_nothing,
]  # fmt: skip
CANARIES = [
    shadows_count, a_guards_verdict_counts, errors_do_not_count, what_another_pool_saved_is_well, time_does_not_count,
    a_few_are_enough, one_more_is_needed, a_common_cause_is_blamed_on_the_canary, what_failed_before_is_counted_again,
    the_canary_is_never_judged, the_sides_are_confused, it_is_taken_back_again_and_again,
]  # fmt: skip


def seen(run):
    for seed in range(8):
        try:
            run(seed)
        except (AssertionError, KeyError):
            return True
    return False


@pytest.mark.parametrize("mutant", CIRCUITS, ids=lambda m: m.__name__)
def test_a_planted_fault_in_circuits_is_seen(mutant, monkeypatch):
    mutant(monkeypatch)
    assert seen(outages)


@pytest.mark.parametrize("mutant", CANARIES, ids=lambda m: m.__name__)
def test_a_planted_fault_in_canaries_is_seen(mutant, monkeypatch):
    mutant(monkeypatch)
    assert seen(rollouts)
