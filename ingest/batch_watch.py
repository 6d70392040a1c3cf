"""Looks at all batches once a second: why each waits, when it will be done, what the pools of each model can do."""

from __future__ import annotations

import logging
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Final

import msgspec

from ingest import places
from ingest.batch_feed import PARKED_LINES, Feed
from ingest.batch_models import Models
from ingest.batch_object import VALIDATING, Waiting
from ingest.batch_outlook import Facts, Outlook, outlook
from ingest.batch_run import BatchRun
from ingest.capacity import Measure, Meter, Queue, Report
from ingest.circuits import Circuits
from ingest.storage import Missing, Storage, StorageError

log = logging.getLogger(__name__)

LOOK_MS: Final = 1_000
# What a gateway knows of the capacity is at most so old.
REPORT_MS: Final = 5_000
# Looks over which the pace of a batch is taken.
PACE_LOOKS: Final = 60

NOT_CONFIGURED: Final = Waiting("not_configured", "There is no configuration yet.")


class Pace:
    """Lines per second of one batch over the last minute, from the moment it began to move."""

    def __init__(self) -> None:
        self._looks: deque[tuple[int, int, int]] = deque(maxlen=PACE_LOOKS)

    def add(self, lines: int, tokens: int, now_ms: int) -> tuple[int, int]:
        """Note what has ended until now; lines and tokens since the last look."""
        before = self._looks[-1] if self._looks else (now_ms, lines, tokens)
        if len(self._looks) > 1 and lines == self._looks[0][1]:
            self._looks.clear()  # a minute without a line: what comes is another time
        self._looks.append((now_ms, lines, tokens))
        return lines - before[1], tokens - before[2]

    @property
    def per_second(self) -> float:
        """The pace; 0 while nothing is known."""
        (first_ms, first, _), (last_ms, last, _) = self._looks[0], self._looks[-1]
        return 1000 * (last - first) / (last_ms - first_ms) if last_ms > first_ms else 0.0


class Watch:
    """Call `look` often; it does something once a second. Reports are written by `executor`.

    `models` is the configuration as it is now, None while there is none.
    """

    def __init__(
        self,
        storage: Storage,
        executor: Executor,
        service: str,
        feed: Feed,
        models: Callable[[], Models | None],
        circuits: Circuits,
    ) -> None:
        self._storage = storage
        self._executor = executor
        self._service = service
        self._feed = feed
        self._models = models
        self._circuits = circuits
        self._paces: dict[str, Pace] = {}
        self._meters: defaultdict[str, Meter] = defaultdict(Meter)
        self._measures: dict[str, Measure] = {}
        self._looked_ms = self._reported_ms = 0
        self._written = Report()
        self._writing: Future[Report | None] | None = None

    def look(self, runs: Collection[BatchRun], now_ms: int) -> None:
        """Look, if it is time."""
        span_ms = now_ms - self._looked_ms
        if span_ms < LOOK_MS:
            return
        self._looked_ms = now_ms
        self._circuits.read()
        models = self._models()
        for run in runs:
            if not run.document.private.validated:
                run.look(Outlook(NOT_CONFIGURED if models is None else VALIDATING, None))
        if models is None:
            return
        running = [run for run in runs if run.step() == "feed"]
        self._measure(running, models, span_ms, now_ms)
        for run in running:
            run.look(outlook(self._facts(run, running, models), now_ms))
        self._report(running, models, now_ms)

    def _measure(self, running: Iterable[BatchRun], models: Models, span_ms: int, now_ms: int) -> None:
        ended: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        pressed: defaultdict[str, bool] = defaultdict(bool)
        paces, self._paces = self._paces, {}
        for run in running:
            pace = self._paces[run.id] = paces.get(run.id) or Pace()
            lines, tokens = pace.add(*run.progress, now_ms)
            model = models.real(run.document.batch.model or "")
            ended[model][0] += lines
            ended[model][1] += tokens
            pressed[model] |= not (run.all_sent or run.held or self._feed.parked(run.id))
        for model in [name for name in self._meters if name not in ended]:
            del self._meters[model]
        for model, (lines, tokens) in ended.items():
            self._meters[model].add(span_ms, lines, tokens, pressed=pressed[model])
            if measure := self._meters[model].measure(now_ms, models.fingerprint(model)):
                self._measures[model] = measure

    def _facts(self, run: BatchRun, running: Collection[BatchRun], models: Models) -> Facts:
        name = run.document.batch.model or ""
        model = models.real(name)
        others = [
            r for r in running if r is not run and not r.held and models.real(r.document.batch.model or "") == model
        ]
        deadline_ms = run.document.private.deadline_ms
        first = [r for r in others if r.tenant == run.tenant and r.document.private.deadline_ms < deadline_ms]
        done, tokens = run.progress
        measure = self._measures.get(model)
        down, routes = self._circuits.open, models.routes(name)
        return Facts(
            left=run.bitmap.total - done,
            unsent=run.bitmap.total - done - len(run.open),
            open=len(run.open),
            parked=self._feed.parked(run.id),
            pace=self._paces[run.id].per_second,
            moved_ms=run.moved_ms,
            paused=run.held,
            room=self._feed.room(model),
            ahead=sum(r.bitmap.total - r.bitmap.count for r in first if self._feed.parked(r.id) < PARKED_LINES),
            tenants=len({r.tenant for r in others} | {run.tenant}),
            capacity=measure.lines_per_second if measure and measure.pools == models.fingerprint(model) else 0.0,
            limits=models.limits(run.tenant, run.document.private.key_id, name),
            prepaid=models.prepaid(run.tenant),
            tokens_a_line=tokens / done if done else 0.0,
            down=routes if routes and all(pool in down for pool in routes) else (),
        )

    def _report(self, running: Iterable[BatchRun], models: Models, now_ms: int) -> None:
        """Let gateways know, now and then, if there is news."""
        if self._writing is not None:
            if not self._writing.done():
                return
            self._written, self._writing = self._writing.result() or self._written, None
            self._measures = {**self._written.measures, **self._measures}
        if now_ms - self._reported_ms < REPORT_MS:
            return
        queues: defaultdict[str, list[Queue]] = defaultdict(list)
        for run in running:
            if not run.held:
                left = Queue(run.tenant, run.document.private.deadline_ms, run.bitmap.total - run.bitmap.count)
                queues[models.real(run.document.batch.model or "")].append(left)
        report = Report(dict(self._measures), {model: tuple(found) for model, found in queues.items()}, now_ms)
        if (report.measures, report.queues) == (self._written.measures, self._written.queues) and self._reported_ms:
            return
        self._reported_ms = now_ms
        self._writing = self._executor.submit(partial(_write, self._storage, self._service, report))


def _write(storage: Storage, service: str, report: Report) -> Report | None:
    """Write a report; what one before it measured that this one did not stays in it. None where S3 failed."""
    place = places.capacity(service)
    try:
        try:
            before = msgspec.json.decode(storage.get(place).body, type=Report)
        except (Missing, msgspec.DecodeError):
            before = Report()
        whole = Report({**before.measures, **report.measures}, report.queues, report.at_ms)
        storage.put(place, msgspec.json.encode(whole))
    except StorageError as error:
        log.warning("the measured capacity was not stored: %s", error)
        return None
    return whole
