"""The loop on one screen: the walk of one piece of work, in the order that protects data.

1. Take       its record is read, its offset open (workers/worker.py, workers/membership.py).
2. Refuse     what is late, taken back, or known to kill.
3. Run        on the pool's engine, or pause, and be walked again from 1: its offset stays open.
4. Moderate   before anything leaves.
5. Drain      chunks are with Kafka before the completion is.
6. Complete   append the completion, and wait until Kafka has it.
7. Finish     only now is the offset done; the low watermark is committed by the clock and on revocation.
"""

from __future__ import annotations

import logging
import uuid
from typing import Final

from schemas import topics
from schemas.records import DeadLetter, Work
from schemas.wire import Codec
from workers import dead, outcome
from workers.answer import Progress, answer
from workers.cancellations import Cancellations
from workers.channel import Channel
from workers.clock import now_ms
from workers.docket import Docket
from workers.item import Attempt, Item
from workers.outbox import Outbox
from workers.outcome import Ending, Fault, Refusal
from workers.quarantine import Quarantine
from workers.rules import Rules, UnknownRules
from workers.screen import Screen
from workers.station import Station
from workers.suspicion import DEATHS

log = logging.getLogger(__name__)

UNMODERATED: Final = Refusal("failed", 500, "The rules for the answer are not known.", "moderation_unavailable")
POISON: Final = Refusal("failed", 500, "The request ended each worker that ran it.", "poison_request")
REPLACED: Final = Refusal("unavailable", 503, "The engine was replaced.", "pool_unavailable")
BROKEN: Final = Refusal("failed", 500, "The attempt failed.", "internal_error")


class Loop:
    """Walks pieces of work, any number at once. Completions of batch lines leave by `batch`, all else by `outbox`."""

    def __init__(
        self, service: str, codec: Codec, outbox: Outbox, batch: Outbox, docket: Docket, quarantine: Quarantine
    ) -> None:
        self._service, self._codec, self._outbox, self._batch = service, codec, outbox, batch
        self._docket, self._quarantine = docket, quarantine
        self.cancellations = Cancellations()
        self.rules = Rules()

    async def walk(self, item: Item, station: Station) -> bool:
        """1. It has been taken. Each step below must be safe to repeat if the process dies after it.

        Returns whether it has come to its end; else it pauses.
        """
        work, seen = item.work, item.seen
        attempt = item.attempt = item.attempt or self._attempt(work)
        engine: tuple[str, str, str] = (station.setting.pool.engine, "", "")
        ran = item.stops > 0
        try:
            try:
                # 2. Refuse.
                refusal = self.refusal(item, now_ms())
                if refusal is None:
                    await self._quarantine.enter(item)
                    refusal = self.refusal(item, now_ms()) or await self._poison(item)
                if refusal is not None:
                    found: Ending | None = self._refused(refusal, seen)
                else:
                    # 3. Run.  4. Moderate.
                    ran = True
                    found, engine = await self._answer(item, station, attempt)
                if found is None:
                    return False
                ending = found
                # 5. Drain.
                await attempt.channel.drained()
            except Exception:  # A fault of ours must not leave work without an end: its partition would stand still.
                log.exception("%s: an attempt at %s broke", work["pool"], work["request_id"])
                ending = self._refused(BROKEN, seen)
            # 6. Complete.
            record = outcome.completion(
                work,
                ending,
                attempt=attempt.id,
                worker=self._service,
                engine=engine,
                started=attempt.started_at,
                finished=now_ms(),
            )
            outbox = self._batch if work["lane"] == "batch" else self._outbox
            await outbox.put(topics.JOURNAL, work["tenant"].encode(), self._codec.encode("Completion", record))
            # 7. Finish.
            self._docket.settle(item, now_ms())
            station.signals.ended(item, record, ending.fault, ran=ran, slots=station.lanes.slots)
            return True
        finally:
            await self._quarantine.leave(item)

    def _refused(self, refusal: Refusal, seen: Progress) -> Ending:
        return outcome.refused(refusal, seen.counts, streamed=seen.streamed, first_token_at=seen.first_token_at)

    def _attempt(self, work: Work) -> Attempt:
        name = uuid.uuid4().hex
        return Attempt(name, now_ms(), Channel(self._outbox, self._codec, work, name, self._service))

    async def _answer(
        self, item: Item, station: Station, attempt: Attempt
    ) -> tuple[Ending | None, tuple[str, str, str]]:
        pool, work, seen = station.setting.pool, item.work, item.seen
        try:
            engine = station.lease()
        except Fault as fault:
            return self._refused(fault.refusal, seen), (pool.engine, "", "")
        try:
            if attempt.screen is None or seen.continuation is None or engine is not attempt.engine:
                if seen.streamed:
                    return self._refused(REPLACED, seen), (engine.kind, "", "")
                seen.begin_anew()
                attempt.engine, attempt.screen = engine, Screen(await self.rules.find(work["rules"]), engine.secret)
            item.stoppable = True
            ending = await answer(work, pool, engine, attempt.screen, attempt.channel, seen)
            return ending, (engine.kind, engine.model_version, engine.precision)
        except UnknownRules:
            return outcome.refused(UNMODERATED), (engine.kind, engine.model_version, engine.precision)
        finally:
            item.stoppable = False
            station.release(engine)

    def refusal(self, item: Item, now: int) -> Refusal | None:
        """Why this must not start at `now`, ms UTC; None if it may."""
        work = item.work
        reason = self.cancellations.reason(work["tenant"], work["request_id"], work["admitted_at"], now)
        return outcome.before(work, now, item.seen.stop_reason or reason, begun=item.stops > 0)

    async def _poison(self, item: Item) -> Refusal | None:
        if item.suspect is None or item.deaths < DEATHS:
            return None
        log.error("%s: %s was running at %d deaths", item.work["pool"], item.work["request_id"], item.deaths)
        await self.bury(dead.poison(item.suspect, item.work, item.deaths, now_ms()))
        return POISON

    async def bury(self, letter: DeadLetter) -> None:
        """Write a dead letter; returns when Kafka has it."""
        await self._outbox.put(topics.DEAD_LETTERS, letter["key"] or b"", self._codec.encode("DeadLetter", letter))
