"""Planted faults in the decisions over deliveries: the toy world and its oracle must see each of them."""

import pytest

from streams import deliveries, delivery_queue
from streams.delivery_queue import Queue
from tests.simulation.webhook_world import World

RUNS = 8


def an_event_is_planned_each_time_it_is_read(m):
    real = deliveries.plan
    m.setattr(deliveries, "plan", lambda event, *rest: real(event | {"repeat": True}, *rest))


def what_was_planned_before_a_kill_counts_as_all(m):
    real = deliveries.plan

    def plan(event, position, known, *rest):
        found = real(event, position, known, *rest)
        whole = not any(key.event_id == event["event_id"] for key in known)
        return found if whole else found[-1:]

    m.setattr(deliveries, "plan", plan)


def planning_is_closed_first(m):
    real = deliveries.plan
    m.setattr(deliveries, "plan", lambda *given: real(*given)[::-1])


def another_clerk_begins_after_the_end(m):
    m.setattr(deliveries, "next_position", lambda records: max((r["position"] + 1 for r in records), default=0))


def a_failure_ends_a_delivery(m):
    real = deliveries.after
    m.setattr(deliveries, "after", lambda d, a: {**real(d, a), "status": "failed" if a["error"] else "delivered"})


def a_success_does_not_end_it(m):
    real = deliveries.after
    m.setattr(deliveries, "after", lambda d, a: {**real(d, a), "status": "pending"})


def pauses_do_not_grow(m):
    m.setattr(deliveries, "GROWTH", 1)


def there_are_no_pauses(m):
    m.setattr(deliveries, "delay_ms", lambda tries, seed: 0)


def a_day_has_twelve_hours(m):
    m.setattr(deliveries, "DAY_MS", deliveries.DAY_MS // 2)


def the_last_try_is_left_out(m):
    real = deliveries.after

    def after(delivery, attempt):
        changed = real(delivery, attempt)
        if changed["status"] == "pending" and changed["due_at"] == deliveries.deadline_ms(delivery):
            return {**changed, "status": "failed"}
        return changed

    m.setattr(deliveries, "after", after)


def a_day_never_ends(m):
    m.setattr(deliveries, "deadline_ms", lambda delivery: 1 << 62)


def failing_endpoints_keep_their_slots(m):
    m.setattr(Queue, "is_well", lambda self, endpoint: True)


def one_slot_for_all(m):
    m.setattr(delivery_queue, "MAX_RUNNING", 1)


def slots_are_not_counted(m):
    m.setattr(Queue, "_has_room", lambda self, endpoint: True)


def slots_are_not_given_back(m):
    m.setattr(Queue, "end", lambda self, key: self._running.pop(key))


def what_is_put_is_taken_for_ended(m):
    real = Queue.put

    def put(self, delivery):
        key = deliveries.key(delivery)
        if key in self._running:
            Queue.end(self, key)
            m.setattr(Queue, "end", lambda self, key: self._running.pop(key, None))
        real(self, delivery)

    m.setattr(Queue, "put", put)


def gone_is_a_failure_like_others(m):
    m.setattr(deliveries, "GONE", 0)


def gone_is_for_ever(m):
    real = Queue.configure
    m.setattr(Queue, "configure", lambda self, webhooks, at_ms: real(self, webhooks, 0))


def gone_is_forgotten_with_the_clerk(m):
    real = Queue.put

    def put(self, delivery):
        key = deliveries.key(delivery)
        new = key not in self.known
        real(self, delivery)
        if new:
            self._last.pop((key.tenant, key.endpoint), None)
            self._wait(key)

    m.setattr(Queue, "put", put)


def what_waits_for_a_gone_endpoint_is_given_up(m):
    m.setattr(Queue, "_wake_ms", lambda self, delivery: delivery["due_at"])


def what_is_put_does_not_wait(m):
    real = Queue._wait
    m.setattr(Queue, "_wait", lambda self, key: real(self, key) if not self.known[key]["tries"] else None)


def a_changed_delivery_is_tried_as_it_was(m):
    m.setattr(Queue, "_is_stale", lambda self, key, wake_ms: key not in self.known or key in self._running)


def tenants_share_endpoints(m):
    real = deliveries.wanted
    m.setattr(deliveries, "wanted", lambda event, hooks: [*real(event, hooks), "gone"])


MUTANTS = [
    an_event_is_planned_each_time_it_is_read, what_was_planned_before_a_kill_counts_as_all, planning_is_closed_first,
    another_clerk_begins_after_the_end, a_failure_ends_a_delivery, a_success_does_not_end_it, pauses_do_not_grow,
    there_are_no_pauses, a_day_has_twelve_hours, the_last_try_is_left_out, a_day_never_ends,
    failing_endpoints_keep_their_slots, one_slot_for_all, slots_are_not_counted, slots_are_not_given_back,
    what_is_put_is_taken_for_ended,
    gone_is_a_failure_like_others, gone_is_for_ever, gone_is_forgotten_with_the_clerk,
    what_waits_for_a_gone_endpoint_is_given_up, what_is_put_does_not_wait, a_changed_delivery_is_tried_as_it_was,
    tenants_share_endpoints,
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_planted_fault_is_seen(mutant, monkeypatch):
    mutant(monkeypatch)
    for seed in range(RUNS):
        try:
            World(seed).run()
        except (AssertionError, KeyError):
            return
    pytest.fail(f"{mutant.__name__} was not noticed in {RUNS} runs")
