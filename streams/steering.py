"""What the controller decides for all pools and tenants together: whom to tell of a circuit, which canary to take back.

Pure in (state, record, the record's time). The state is what the journal of the last minutes says, and no more: nothing
of it is stored, and whoever reads the same records decides the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import orjson

from schemas.config import Canary, ConfigDocument, Model, Pool
from schemas.records import Circuit as Notice
from schemas.records import Completion
from streams import canary, circuit
from streams.canary import RollBack, Side, Watch
from streams.circuit import Change, Circuit


class Tell(NamedTuple):
    """Tell these tenants whether to avoid a pool. `what` says why, for people."""

    pool: str
    is_open: bool
    at_ms: int
    tenants: tuple[str, ...]
    what: str = ""


class Ended(NamedTuple):
    """What a decision needs of a Completion: far less to keep than the record with its answer."""

    model: str
    shadow_of: str
    pool: str
    step: int
    outcome: str
    code: str
    took_ms: int


def ended(c: Completion) -> Ended:
    """The part of a Completion that counts here."""
    took_ms = max(0, c["finished_at"] - c["started_at"])
    code = "" if c["outcome"] == "ok" else code_of(c["body"])
    return Ended(c["model"], c["shadow_of"], c["pool"], c["step"], c["outcome"], code, took_ms)


def code_of(body: bytes) -> str:
    """The code of an error body in OpenAI's shape; empty if it has none."""
    try:
        code = orjson.loads(body)["error"]["code"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        return ""
    return code if isinstance(code, str) else ""


Parts = tuple[Model | None, Model | None, tuple[Pool | None, ...]]


class _Trial(NamedTuple):
    """A canary under watch, and what it is made of: once that changes, another trial begins."""

    made_of: Parts
    watch: Watch


class Steering:
    """The state of all circuits and canaries. `document` is the configuration they belong to.

    `due_back` are canaries that are to be taken back, with the reason: they stay there until the configuration shows
    that it was done, so that a failure to publish is tried again.
    """

    def __init__(self) -> None:
        self.document: ConfigDocument | None = None
        self.circuits: dict[str, Circuit] = {}
        self.due_back: dict[str, str] = {}
        self._trials: dict[str, _Trial] = {}
        self._sides: dict[str, list[tuple[str, Side]]] = {}
        self._next_ms = 0
        # When an attempt of each pool ended last.
        self._alive: dict[str, int] = {}

    def configure(self, document: ConfigDocument, published_ms: int, now_ms: int) -> list[Tell]:
        """Live by `document`, published at `published_ms`: what its new tenants, and all of its new pools, must know.

        A pool whose settings changed is a new one: what was wrong may have been put right. The pools of a canary that
        starts anew are tried at once: it would be judged by the answers of other pools.
        """
        before, self.document = self.document, document
        tenants = set(before.tenants) if before else set[str]()
        pools = before.pools if before else {}
        fresh = {name for name, pool in document.pools.items() if pools.get(name) != pool}
        new = Circuit(since=now_ms, heard_from=now_ms)
        self.circuits = {name: new if name in fresh else self.circuits[name] for name in document.pools}
        self._alive = {name: at for name, at in self._alive.items() if name in document.pools}
        started = self._watch(document, published_ms)
        for name in started:
            self.circuits[name], change = circuit.retry(self.circuits[name], now_ms)
            if change == "tried":
                fresh.add(name)
        self._schedule()
        told = {pool: [t for t in document.tenants if pool in fresh or t not in tenants] for pool in document.pools}
        return [self._tell(pool, whom, now_ms) for pool, whom in told.items() if whom]

    def tell_all(self, now_ms: int) -> list[Tell]:
        """What every tenant must know of every pool: said at the start, as nobody knows what was said before."""
        if self.document is None:
            return []
        return [self._tell(pool, self.document.tenants, now_ms) for pool in self.circuits]

    def _tell(self, pool: str, tenants: Iterable[str], now_ms: int) -> Tell:
        known = self.circuits[pool]
        is_open = known.phase == "open"
        return Tell(pool, is_open, known.since if is_open else now_ms, tuple(tenants))

    def _watch(self, document: ConfigDocument, published_ms: int) -> set[str]:
        """Follow the canaries of `document`; the pools of those that are new."""
        trials: dict[str, _Trial] = {}
        self._sides, started = {}, set()
        for name, model, limits in _active(document):
            made_of, known = _parts(document, name), self._trials.get(name)
            if known is not None and known.made_of == made_of:
                trials[name] = known
            else:
                trials[name] = _Trial(made_of, canary.watch(limits, published_ms))
                self.due_back.pop(name, None)
                started |= set(document.models[limits.model].route)
            for share in model.split:
                side: Side = "canary" if share.model == limits.model else "stable"
                self._sides.setdefault(share.model, []).append((name, side))
        self._trials = trials
        self.due_back = {name: why for name, why in self.due_back.items() if name in trials}
        return started

    def complete(self, e: Ended, at_ms: int) -> list[Tell]:
        """An attempt ended; `at_ms` is the broker's time of the record that says so."""
        tells = self.advance(at_ms)
        if self.document is None:
            return tells
        known = self.circuits.get(e.pool)
        if known is not None:
            decided = circuit.decide(known, self._result(e, at_ms), at_ms - e.took_ms, at_ms)
            tells += self._changed(e.pool, *decided, e.code)
        if not e.shadow_of and e.step >= 0:
            for name, side in self._sides.get(e.model, ()):
                trial = self._trials[name]
                end = canary.end_of(e.outcome, e.code, e.step, len(self.document.models[e.model].route))
                watch, verdict = canary.decide(trial.watch, side, end, e.took_ms, at_ms)
                self._trials[name] = trial._replace(watch=watch)
                if isinstance(verdict, RollBack):
                    self.due_back.setdefault(name, verdict.why)
        return tells

    def _result(self, e: Ended, at_ms: int) -> circuit.Result:
        if e.code != circuit.SILENT:
            self._alive[e.pool] = max(at_ms, self._alive.get(e.pool, 0))
        elif self._alive.get(e.pool, 0) >= at_ms - e.took_ms:
            return "neither"
        return circuit.result_of(e.outcome, e.code)

    def hear(self, notice: Notice) -> None:
        """A Circuit record in the journal: our own come back, and are known already."""
        pool = notice["pool"]
        if pool in self.circuits:
            self.circuits[pool] = circuit.adopt(self.circuits[pool], is_open=notice["open"], at_ms=notice["at"])
            self._schedule()

    def advance(self, now_ms: int) -> list[Tell]:
        """Time has come to `now_ms`, the broker's."""
        if not self._next_ms or now_ms < self._next_ms:
            return []
        tells: list[Tell] = []
        for pool, known in list(self.circuits.items()):
            tells += self._changed(pool, *circuit.advance(known, now_ms), "")
        self._schedule()
        return tells

    def _changed(self, pool: str, after: Circuit, change: Change, code: str) -> list[Tell]:
        self.circuits[pool] = after
        if change == "none":
            return []
        self._schedule()
        assert self.document is not None, "without a configuration there is nobody to tell"
        pause_s = after.pause_ms // 1000
        what = {
            "opened": f"its circuit opens for {pause_s} s after {code or 'failures'}",
            "tried": "it is tried again",
            "closed": "it answers again, its circuit closes",
        }[change]
        # On trial the pool is in use already: that it passed is news for people only.
        tenants = () if change == "closed" else self.document.tenants
        return [Tell(pool, after.phase == "open", after.since, tenants, what)]

    def _schedule(self) -> None:
        self._next_ms = min((c.due for c in self.circuits.values() if c.due), default=0)

    def open_pools(self) -> dict[str, int]:
        """Pools whose circuit is open, with the time since when, ms UTC."""
        return {pool: c.since for pool, c in self.circuits.items() if c.phase == "open"}


def _active(document: ConfigDocument) -> Iterator[tuple[str, Model, Canary]]:
    """Models with a canary that gets requests now."""
    for name, model in document.models.items():
        limits = model.canary
        if limits is None or limits.rolled_back:
            continue
        if any(share.model == limits.model and share.weight > 0 for share in model.split):
            yield name, model, limits


def rolled_back(document: ConfigDocument) -> dict[str, str]:
    """Models whose canary was taken back, with the reason."""
    found = {name: m.canary.rolled_back for name, m in document.models.items() if m.canary is not None}
    return {name: why for name, why in found.items() if why}


def same_trial(document: ConfigDocument, decided_on: ConfigDocument, model: str) -> bool:
    """Whether the canary of `model` is in `document` the one that was judged by `decided_on`."""
    return model in {name for name, *_ in _active(document)} and _parts(document, model) == _parts(decided_on, model)


def _parts(document: ConfigDocument, model: str) -> Parts:
    whole = document.models.get(model)
    candidate = document.models.get(whole.canary.model) if whole is not None and whole.canary is not None else None
    return whole, candidate, tuple(document.pools.get(p) for p in (candidate or Model()).route)
