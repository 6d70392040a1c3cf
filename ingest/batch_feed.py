"""Sends lines of batches to the journal: few at a time, tenants in turn, within a tenant the earliest deadline first.

Lines to be run go as Request, lines of a batch that was cancelled or has expired as Cancellation.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from functools import partial
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaError, KafkaException, Producer

from ingest import batch_line, ids, input_source, window
from ingest.ahead import Ahead
from ingest.batch_line import Fault
from ingest.batch_models import Models
from ingest.batch_run import BatchRun
from ingest.batch_validation import Verdict
from ingest.input_lines import InputLine
from ingest.input_reader import InputReader
from ingest.storage import Missing, Storage, StorageError
from ingest.window import Need, Rate, Room
from schemas import topics, uris
from schemas.records import Cancellation, Request
from schemas.wire import Codec

log = logging.getLogger(__name__)

# Cancellations are answered by admission itself, so a thousand under way keep it busy for less than half a second.
SWEEP_OPEN: Final = 1_000
# Lines of a batch that may wait for quota inside admission. They are in nobody's way, and none of them fills the pool's
# window: a tenant without quota must not keep the others' batches from a pool.
PARKED_LINES: Final = 64
# Admission answers every cancellation; if some answer is missing for this long, the sweep is made again.
SWEEP_AGAIN_MS: Final = 30_000
READ_AGAIN_MS: Final = 2_000


class Feed:
    """Sends slices of lines to `topic`. `models` is the configuration as it is now, None while there is none."""

    def __init__(
        self,
        producer: Producer,
        codec: Codec,
        storage: Storage,
        executor: Executor,
        models: Callable[[], Models | None],
        topic: str = topics.JOURNAL,
    ) -> None:
        self._topic = topic
        self._producer = producer
        self._codec = codec
        self._storage = storage
        self._executor = executor
        self._models = models
        self._rates: defaultdict[str, Rate] = defaultdict(Rate)
        self._needs: defaultdict[str, Need] = defaultdict(Need)
        self._ahead = Ahead()
        self._rooms: dict[str, Room] = {}
        self._last = ""
        self._slice_ms = 0

    def admitted(self, request_id: str, now_ms: int) -> None:
        """Admission has decided about a line."""
        self._ahead.seen(request_id, now_ms)

    def finished(self, run: BatchRun, engine_ms: int, now_ms: int) -> None:
        """A line of `run` has its outcome, so its model's pool can take more; -1 ms if it held no slot there."""
        model = self._model(run)
        self._rates[model].add(1, now_ms)
        if engine_ms >= 0:
            self._needs[model].add(engine_ms)

    def parked(self, batch_id: str) -> int:
        """Lines of a batch that admission has had for a while and shows no sign of."""
        return self._ahead.parked(batch_id)

    def room(self, model: str) -> int:
        """Lines that the pools of a model could still take when lines were sent last."""
        return self._rooms[model].left if model in self._rooms else 0

    def slice(self, runs: Iterable[BatchRun], now_ms: int) -> int:
        """Send the next lines of `runs`, if it is time; how many were sent."""
        slices = min((now_ms - self._slice_ms) // window.SLICE_MS, window.LATE_SLICES)
        if slices <= 0:
            return 0
        self._slice_ms = now_ms
        room = self._ahead.room(now_ms)
        most = min(slices * window.slice_lines(self._ahead.per_second(now_ms)), room)
        if most <= 0:
            return 0
        if (models := self._models()) is None:
            return 0
        ready, self._rooms = self._ready(runs, models, now_ms)
        sent = 0
        while ready and sent < most:
            for tenant in window.turns(ready, self._last):
                count = self._turn(ready[tenant], min(window.TURN_LINES, most - sent), now_ms)
                sent += count
                if not count:
                    del ready[tenant]
                self._last = tenant
                if sent >= most:
                    break
        return sent

    def _ready(
        self, runs: Iterable[BatchRun], models: Models, now_ms: int
    ) -> tuple[dict[str, list[BatchRun]], dict[str, Room]]:
        """Runs with lines to send, by tenant and deadline; and how many lines each model may still take."""
        ready: defaultdict[str, list[BatchRun]] = defaultdict(list)
        rooms: defaultdict[str, Room] = defaultdict(Room)
        runs = list(runs)
        self._ahead.forget_others({run.id for run in runs})
        for run in runs:
            step = run.step()
            if step == "feed":
                rooms[self._model(run)].take(run.tenant, len(run.open) - self._ahead.parked(run.id))
            elif step == "sweep" and run.all_sent and now_ms - run.sent_ms > SWEEP_AGAIN_MS:
                log.warning("%s: %d lines were not answered, asking again", run.id, len(run.open))
                run.rewind()
            if step in ("feed", "sweep") and not run.held and not run.all_sent and now_ms >= run.retry_ms:
                ready[run.tenant].append(run)
        for model, room in rooms.items():
            room.most = self._limit(models, model, now_ms)
        for waiting in ready.values():
            waiting.sort(key=lambda r: r.document.private.deadline_ms)
        return ready, rooms

    def _limit(self, models: Models, model: str, now_ms: int) -> int:
        return window.limit(models.slots(model), self._rates[model].per_second(now_ms), self._needs[model].ms)

    def _turn(self, waiting: list[BatchRun], most: int, now_ms: int) -> int:
        """Send up to `most` lines of one tenant; how many were sent."""
        sent = 0
        for run in waiting:
            room = self._rooms.get(self._model(run)) or Room()
            while sent < most and self._allowed(run, room):
                if not self._send_next(run, now_ms):
                    if run.reader is not None and not run.document.terminal:
                        return sent  # its block is on the way; to begin with the next batch would only take memory
                    break
                sent += 1
                if run.step() == "feed":
                    room.take(run.tenant)
        return sent

    def _model(self, run: BatchRun) -> str:
        """The model whose pool a batch fills, which may be called by several names."""
        name, models = run.document.batch.model or "", self._models()
        return name if models is None else models.real(name)

    def _allowed(self, run: BatchRun, room: Room) -> bool:
        if run.step() != "feed":
            return len(run.open) < SWEEP_OPEN
        return room.allows(run.tenant) and self._ahead.parked(run.id) < PARKED_LINES

    def _send_next(self, run: BatchRun, now_ms: int) -> bool:
        """Send the next line of a run that still needs it; False if there is none at hand."""
        if run.reader is None:
            name = run.document.batch.input_file_id
            find = partial(input_source.kept, self._storage, run.id, run.tenant, name)
            run.reader = InputReader(find, *run.position, self._executor)
        while True:
            try:
                line = run.reader.take()
            except Missing as error:
                what = f"The input cannot be read any more: {error}."
                if not uris.is_uri(run.document.batch.input_file_id):
                    what = "The input file was removed while the batch ran."
                fault = Fault("invalid_request", what, "input_file_id")
                run.judge(Verdict(0, "", (fault,)), now_ms)
                return False
            except StorageError as error:
                log.warning("%s: its input cannot be read: %s", run.id, error)
                run.reader = None
                run.retry_ms = now_ms + READ_AGAIN_MS
                return False
            if line is None:
                if run.reader.ended:
                    run.reader = None
                    run.position = (run.bitmap.total + 1, run.position[1])
                return False
            run.position = (line.number + 1, line.offset + len(line.raw) + 1)
            if line.number not in run.bitmap and line.number <= run.bitmap.total:
                return self._send(run, line, now_ms)

    def _send(self, run: BatchRun, line: InputLine, now_ms: int) -> bool:
        try:
            custom_id, body = batch_line.body_of(line.raw)
        except (msgspec.DecodeError, RecursionError):
            fault = Fault("invalid_request", "The input was changed while the batch ran.", "input_file_id", line.number)
            run.judge(Verdict(0, "", (fault,)), now_ms)
            return False
        request_id = ids.request_id(run.id, line.number)
        run.open[line.number] = line.offset
        run.sent_ms = now_ms
        self._ahead.sent(request_id, run.id, now_ms)
        if run.step() == "feed":
            value = self._codec.encode("Request", _request(run, line.number, request_id, custom_id, body, now_ms))
        else:
            value = self._codec.encode("Cancellation", _cancellation(run, line.number, request_id, custom_id))

        def report(error: KafkaError | None, _message: Any) -> None:
            if error is not None:
                log.warning("%s: a line was not taken by Kafka (%s); it is sent again", run.id, error.str())
                run.rewind()

        try:
            self._producer.produce(self._topic, value, run.tenant.encode(), on_delivery=report)
        except (BufferError, KafkaException) as error:
            log.warning("%s: a line cannot be sent (%s); it is sent again", run.id, error)
            run.rewind()
            run.retry_ms = now_ms + READ_AGAIN_MS
            return False
        return True


def _request(run: BatchRun, number: int, request_id: str, custom_id: str, body: bytes, now_ms: int) -> Request:
    private = run.document.private
    return Request(
        tenant=run.tenant,
        request_id=request_id,
        key_id=private.key_id,
        endpoint=run.document.batch.endpoint,
        model=run.document.batch.model or "",
        body=body,
        lane="batch",
        received_at=now_ms,
        deadline=private.deadline_ms,
        reply_to="",
        stream=False,
        batch_id=run.id,
        line=number,
        custom_id=custom_id,
        cache="default",
        repeatable=False,
        correlation_id="",
        source="batch",
        order_key="",
    )


def _cancellation(run: BatchRun, number: int, request_id: str, custom_id: str) -> Cancellation:
    private = run.document.private
    return Cancellation(
        tenant=run.tenant,
        request_id=request_id,
        reason="expired" if private.ending == "expired" else "cancelled",
        key_id=private.key_id,
        model=run.document.batch.model or "",
        received_at=private.created_ms,
        batch_id=run.id,
        line=number,
        custom_id=custom_id,
    )
