"""Planted faults in what carries decisions out: the memory engine and the Flink operator. Each must be seen."""

from __future__ import annotations

import pytest

from streams import carrier, memory
from streams.agenda import Agenda
from streams.carrier import Admission
from streams.memory import MemoryEngine, Undo
from tests.simulation.flink import FlinkEngine
from tests.simulation.world import World

RUNS = 12
STEPS = 800

# in the Flink operator


def flush_is_forgotten(m):
    m.setattr(Admission, "_set_timers", lambda self, tenant, ctx: None)


def timers_are_not_set(m):
    m.setattr(Admission, "_set_timers", lambda self, tenant, ctx: tenant.flush())


def timers_come_late(m):
    def late(self, tenant, ctx):
        for moment in tenant.flush():
            ctx.timer_service().register_event_time_timer(moment + 600_000)

    m.setattr(Admission, "_set_timers", late)


def timers_look_at_another_tenant(m):
    real = Admission.on_timer

    def on_timer(self, timestamp, ctx):
        names = sorted(self._tenants)
        if len(names) > 1:
            ctx._backend.key = names[(names.index(ctx.get_current_key()) + 1) % len(names)]
        return real(self, timestamp, ctx)

    m.setattr(Admission, "on_timer", on_timer)


def state_of_another_tenant_is_read(m):
    real = carrier.FlinkCell.get

    def get(self):
        if not hasattr(self, "remembered"):
            self.remembered = real(self)
        return self.remembered

    m.setattr(carrier.FlinkCell, "get", get)


def tenants_outlive_a_restore(m):
    real, kept = Admission.open, {}

    def open_again(self, context):
        real(self, context)
        self._tenants = kept

    m.setattr(Admission, "open", open_again)


def the_last_output_is_dropped(m):
    real = Admission.process_element
    m.setattr(Admission, "process_element", lambda self, v, ctx: list(real(self, v, ctx))[:-1])


def outputs_change_places(m):
    real = Admission.process_element
    m.setattr(Admission, "process_element", lambda self, v, ctx: list(real(self, v, ctx))[::-1])


def outputs_of_timers_are_dropped(m):
    real = Admission.on_timer

    def on_timer(self, timestamp, ctx):
        list(real(self, timestamp, ctx))
        return []

    m.setattr(Admission, "on_timer", on_timer)


def rows_are_written_at_least_once(m):
    m.setattr(carrier, "EXACTLY_ONCE", frozenset())


def the_senders_clock_decides(m):
    real = Admission.process_element

    class Context:
        def __init__(self, ctx, at):
            self.timestamp = lambda: at
            self.timer_service = ctx.timer_service

    def process_element(self, value, ctx):
        _, record = self._codec.decode(value)
        return real(self, value, Context(ctx, record.get("received_at", ctx.timestamp())))

    m.setattr(Admission, "process_element", process_element)


# in the memory engine


def ticks_are_ignored(m):
    m.setattr(MemoryEngine, "advance", lambda self, now_ms: [])


def the_fastest_clock_counts(m):
    m.setattr(memory, "min", max, raising=False)


def tenants_outlive_a_restart(m):
    m.setattr(MemoryEngine, "restart", lambda self: None)


def what_is_new_is_not_undone(m):
    real = Undo.note
    m.setattr(Undo, "note", lambda self, values, key: real(self, values, key) if key in values else None)


def undoing_forgets_the_order(m):
    m.setattr(memory, "reversed", list, raising=False)


def rows_are_not_taken_back(m):
    real = MemoryEngine.restore
    m.setattr(MemoryEngine, "restore", lambda self, c: real(self, c._replace(rows={})))


def the_agenda_is_not_stored(m):
    real = Agenda.flush

    def flush(self):
        self._changed = False
        return real(self)

    m.setattr(Agenda, "flush", flush)


def two_tenants_share_a_store(m):
    real = MemoryEngine.tenant

    def tenant(self, name):
        self.stores["globex"] = self.stores["acme"]
        return real(self, name)

    m.setattr(MemoryEngine, "tenant", tenant)


def one_tenant_decides_for_another(m):
    real = MemoryEngine.tenant
    m.setattr(MemoryEngine, "tenant", lambda self, name: real(self, "acme" if name == "globex" else name))


def writes(change):
    """A mutant that changes the list of what one decision writes."""

    def mutant(m):
        real = MemoryEngine._write
        m.setattr(MemoryEngine, "_write", lambda self, tenant, emits: real(self, tenant, change(list(emits))))

    mutant.__name__ = change.__name__
    return mutant


def the_last_of_many_is_dropped(emits):
    return emits[:-1] if len(emits) > 3 else emits


def rows_are_written_twice(emits):
    return [e for e in emits for _ in range(2 if e.topic == "usage" else 1)]


def replies_go_to_one_gateway(emits):
    return [e._replace(topic="replies.a") if e.topic.startswith("replies.") else e for e in emits]


def controls_are_dropped(emits):
    return [e for e in emits if e.topic != "control"]


def results_go_without_their_batch(emits):
    return [e for e in emits if e.topic != "batch_results"]


FLINK = [
    flush_is_forgotten, timers_are_not_set, timers_come_late, timers_look_at_another_tenant,
    state_of_another_tenant_is_read, tenants_outlive_a_restore, the_last_output_is_dropped, outputs_change_places,
    outputs_of_timers_are_dropped, rows_are_written_at_least_once, the_senders_clock_decides,
]  # fmt: skip
MEMORY = [
    ticks_are_ignored, the_fastest_clock_counts, tenants_outlive_a_restart, what_is_new_is_not_undone,
    undoing_forgets_the_order, rows_are_not_taken_back, the_agenda_is_not_stored, two_tenants_share_a_store,
    one_tenant_decides_for_another, *map(writes, (
        the_last_of_many_is_dropped, rows_are_written_twice, replies_go_to_one_gateway, controls_are_dropped,
        results_go_without_their_batch,
    )),
]  # fmt: skip


@pytest.mark.parametrize(
    ("engine", "mutant"),
    [(FlinkEngine, m) for m in FLINK] + [(MemoryEngine, m) for m in MEMORY],
    ids=lambda x: x.__name__,
)
def test_a_planted_fault_is_seen(engine, mutant, monkeypatch):
    mutant(monkeypatch)
    for seed in range(RUNS):
        try:
            World(seed, engine).run(STEPS)
        except (AssertionError, KeyError, ValueError):
            return
    pytest.fail(f"{mutant.__name__} was not noticed in {RUNS} runs of {STEPS} steps")
