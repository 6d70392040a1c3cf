"""Planted faults in decisions: the simulation and its oracle must see each of them."""

import itertools

import msgspec
import pytest

from streams import admission, closing, dispatch, emission, entry, guarding, ledger, quota, verdict
from streams import body as bodies
from streams.answers import Answers
from streams.deferral import Deferral
from streams.ledger import Account, Admit, Hold
from streams.state import Tenant
from tests.simulation.world import World

chance = itertools.count()
RUNS = 40
STEPS = 1_000


def hold_is_kept(m):
    real = ledger.settle
    m.setattr(ledger, "settle", lambda a, holds, spent: real(a, list(holds)[:-1], spent))


def held_does_not_count(m):
    def reserve(accounts, limits, need, now_ms):
        bare = {k: v._replace(held=0) for k, v in accounts.items()}
        verdict = real(bare, limits, need, now_ms)
        if isinstance(verdict, Admit):
            for k, v in accounts.items():
                verdict.accounts[k] = verdict.accounts[k]._replace(held=verdict.accounts[k].held + v.held)
        return verdict

    real = ledger.reserve
    m.setattr(ledger, "reserve", reserve)


def limit_is_off_by_one(m):
    real = ledger.reserve
    m.setattr(
        ledger,
        "reserve",
        lambda a, limits, need, now: real(
            a, [type(x)(x.on, x.max + 1, x.per, x.model, x.key) for x in limits], need, now
        ),
    )


def settlement_crosses_windows(m):
    real = ledger.settle
    m.setattr(
        ledger, "settle", lambda a, holds, s: real(a, [Hold(h.limit, a[h.limit].window, h.amount) for h in holds], s)
    )


def waste_is_booked_twice(m):
    m.setattr(Tenant, "first_mention", lambda self, attempt, now: True)


def waste_is_forgotten(m):
    m.setattr(admission, "waste", lambda *a: None)


def repetition_is_not_seen(m):
    m.setattr(closing, "repeated", lambda *a: False)


def orphans_are_left(m):
    m.setattr(closing, "orphans", lambda *a: [])


def time_does_nothing(m):
    m.setattr(admission, "advance", lambda tenant, now: [])


def chance_decides(m):
    real = emission.usage
    m.setattr(emission, "usage", lambda *a: real(*a) | {"queue_ms": next(chance)})


def followers_pay(m):
    real = closing.close

    def close(tenant, o, v, now, emits, bill=None):
        if v.cache == "follower":
            bill = emission.Bill(1, 1)
        real(tenant, o, v, now, emits, bill)

    m.setattr(closing, "close", close)


def refusals_have_no_row(m):
    real = emission.outcome
    m.setattr(
        closing,
        "outcome",
        lambda t, o, v, *a: [e for e in real(t, o, v, *a) if v.status != "refused" or e.topic != "usage"],
    )


def blocking_is_not_audited(m):
    real = entry.moderate
    m.setattr(entry, "moderate", lambda *a: ([], real(*a)[1]))


def tokens_are_billed_short(m):
    real = closing.bill_of
    m.setattr(closing, "bill_of", lambda o, c: real(o, c)._replace(output_tokens=max(0, c["output_tokens"] - 1)))


def a_hit_shows_another_answer(m):
    real = entry.follow_or_hold

    def decide(tenant, o, audits, now):
        d = real(tenant, o, audits, now)
        return d._replace(verdict=d.verdict._replace(body=b"{}x")) if d.verdict and d.verdict.cache == "hit" else d

    m.setattr(entry, "follow_or_hold", decide)


def the_ledger_is_not_stored(m):
    real = Tenant.flush

    def flush(self):
        self._written = self._signature()
        return real(self)

    m.setattr(Tenant, "flush", flush)


def the_queue_loses_its_head(m):
    real = Deferral.pop

    def pop(self, slot):
        real(self, slot)
        if self.waits(slot):
            real(self, slot)

    m.setattr(Deferral, "pop", pop)


def deadlines_are_ignored(m):
    real = admission.on_due
    m.setattr(admission, "on_due", lambda t, i, now, e: real(t, i, 0, e))


def a_late_answer_is_sent_again(m):
    real = admission.on_completion

    def on_completion(tenant, c, now, emits):
        done = tenant.find(c["request_id"])[1]
        if done is not None and done["status"] == "completed":
            emits.append(emission.Emit("replies.gw", "x", "Reply", reply(c)))
        real(tenant, c, now, emits)

    def reply(c):
        ended = verdict.Verdict("completed", 200, c["body"] + c["attempt"].encode(), attempt=c)
        return emission.reply_record("acme", c["request_id"], ended)

    m.setattr(admission, "on_completion", on_completion)


def negative_accounts(m):
    real = ledger.settle
    m.setattr(
        ledger, "settle", lambda a, h, s: {k: Account(v.window, v.spent, v.held - 1) for k, v in real(a, h, s).items()}
    )


def the_guard_is_not_asked(m):
    m.setattr(
        dispatch, "judge", lambda tenant, o, now, emits: dispatch.send(tenant, {**o, "guarded": True}, now, emits)
    )


def any_word_of_the_guard_will_do(m):
    real = guarding.verdict
    m.setattr(guarding, "verdict", lambda *a: v if (v := real(*a)) and v.status == "blocked" else None)


def a_credit_counts_as_often_as_it_is_told(m):
    real = Tenant.first_mention
    m.setattr(Tenant, "first_mention", lambda self, what, now: what.startswith("credit") or real(self, what, now))


def a_balance_is_never_used_up(m):
    real = ledger.balance
    m.setattr(ledger, "balance", lambda credited: real(credited + 10**6))


def shadows_are_nobodys(m):
    m.setattr(admission, "on_shadow", lambda *a: None)


def silent_pools_are_waited_for(m):
    real = admission.on_due

    def on_due(tenant, request_id, now, emits):
        o = tenant.open(request_id)
        if o is not None:
            tenant.put_open(o)
            if now < o["deadline"] and o["phase"] == "running":
                return
        real(tenant, request_id, now, emits)

    m.setattr(admission, "on_due", on_due)


def the_price_of_today_is_charged(m):
    real = quota.price_of
    m.setattr(quota, "price_of", lambda o: msgspec.structs.replace(real(o), input=real(o).input + 900_000))


def an_answer_is_shared_across_parameters(m):
    real = bodies.cache_key
    m.setattr(bodies, "cache_key", lambda body, *a: real({**body, "messages": []}, *a))


def an_erased_answer_is_given_again(m):
    m.setattr(Answers, "clear", lambda self: self.count)


def an_erased_reply_is_repeated(m):
    m.setattr(Tenant, "forget_reply", lambda self, request_id, instead: False)


MUTANTS = [
    hold_is_kept, held_does_not_count, limit_is_off_by_one, settlement_crosses_windows, waste_is_booked_twice,
    waste_is_forgotten, repetition_is_not_seen, orphans_are_left, time_does_nothing, chance_decides, followers_pay,
    refusals_have_no_row, blocking_is_not_audited, tokens_are_billed_short, a_hit_shows_another_answer,
    the_ledger_is_not_stored, the_queue_loses_its_head, deadlines_are_ignored, a_late_answer_is_sent_again,
    negative_accounts, the_guard_is_not_asked, any_word_of_the_guard_will_do, a_credit_counts_as_often_as_it_is_told,
    a_balance_is_never_used_up, shadows_are_nobodys, silent_pools_are_waited_for, the_price_of_today_is_charged,
    an_answer_is_shared_across_parameters, an_erased_answer_is_given_again, an_erased_reply_is_repeated,
]  # fmt: skip


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_planted_fault_is_seen(mutant, monkeypatch):
    mutant(monkeypatch)
    for seed in range(RUNS):
        try:
            World(seed).run(STEPS)
        except (AssertionError, KeyError, ValueError):
            return
    pytest.fail(f"{mutant.__name__} was not noticed in {RUNS} runs of {STEPS} steps")
