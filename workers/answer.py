"""One answer from an engine: bounded in time, moderated before any of it leaves, streamed where a caller waits."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import orjson

from schemas.config import Pool
from schemas.records import Work
from workers.assemble import Assembly
from workers.clock import now_ms
from workers.engines import CHAT, Continuation, Engine, Final, Job, Piece
from workers.outcome import NO_TOKENS, Counts, Ending, Fault, Refusal, blocked, invalid, refused, stopped
from workers.screen import Screen

log = logging.getLogger(__name__)


class Channel(Protocol):
    """The way to the caller who waits."""

    async def announce(self) -> None:
        """Say that tokens are coming; returns when Kafka has it."""
        ...

    async def send(self, chunk: dict[str, Any]) -> None:
        """Send one chunk; returns when it is queued."""
        ...


@dataclass(slots=True)
class Progress:
    """How far an attempt has come; kept outside of the task, so that an end from outside finds the true counts.

    `pausing` asks it to pause after the piece that it is at; `waits` says that it is at none, and its task may be
    cancelled for that. `continuation` is where it goes on. `ran_s` is how long it ran before, in seconds, and
    `repeated` how many tokens were computed again because of its pauses.
    """

    counts: Counts = NO_TOKENS
    streamed: bool = False
    first_token_at: int = 0
    stop_reason: str | None = None
    assembly: Assembly = field(default_factory=Assembly)
    pausing: bool = False
    waits: bool = False
    continuation: Continuation | None = None
    ran_s: float = 0.0
    repeated: int = 0

    @property
    def spent(self) -> int:
        """Tokens that the engine computed for it."""
        return self.counts.input_tokens - self.counts.cached_tokens + self.counts.output_tokens

    def begin_anew(self) -> None:
        """What came so far is forgotten: the engine cannot go on from there."""
        assert not self.streamed, "what was shown cannot be taken back"
        self.repeated += self.spent
        self.counts, self.first_token_at = NO_TOKENS, 0
        self.assembly, self.continuation = Assembly(), None


def job_of(work: Work, continuation: Continuation | None = None) -> Job:
    """What the engine is asked. Raises Fault on a body that is no JSON object."""
    try:
        body = orjson.loads(work["body"])
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.", "invalid_request")
    return Job(
        request_id=work["request_id"],
        endpoint=work["endpoint"],
        model=work["model"],
        body=body,
        stream=work["stream"],
        max_input_tokens=work["max_input_tokens"],
        max_output_tokens=work["max_output_tokens"],
        lane=work["lane"],
        continuation=continuation,
    )


async def answer(
    work: Work, pool: Pool, engine: Engine, screen: Screen, channel: Channel, seen: Progress
) -> Ending | None:
    """Run `work` and return its end, whatever happens, or None if it pauses; `seen` is kept up to date on the way.

    The first token must come within the pool's patience; where tokens are seen as they come, so must each next one. No
    pause counts. A cancelled task returns too if `seen` says why; otherwise CancelledError goes on.
    """
    if seen.stop_reason is not None:
        return refused(stopped(seen.stop_reason), seen.counts, streamed=seen.streamed)
    began = asyncio.get_running_loop().time()
    # By the loop's clock from here on: the wall clock may run apart from it, and say that it is too early.
    ends = began + (max(0, work["deadline"] - now_ms()) / 1000 if work["deadline"] else math.inf)
    left_ms = max(0, pool.timeout_ms - round(1000 * seen.ran_s))
    patience_ms = min(left_ms, pool.first_token_timeout_ms) if work["stream"] or work["announce"] else left_ms
    try:
        async with asyncio.timeout_at(min(began + patience_ms / 1000, ends)) as clock:
            return await _run(work, pool, engine, screen, channel, seen, clock, ends)
    except TimeoutError:
        if clock.when() == ends:
            refusal = stopped("expired")
        else:
            refusal = Refusal("unavailable", 503, "The pool did not answer in time.", "pool_timeout")
    except asyncio.CancelledError:
        if seen.stop_reason is None and not seen.pausing:
            raise
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        while task.cancelling():
            task.uncancel()
        if seen.stop_reason is None:
            return None
        refusal = stopped(seen.stop_reason)
    except Fault as fault:
        refusal = fault.refusal
        seen.counts = fault.counts if sum(fault.counts) > sum(seen.counts) else seen.counts
    except Exception:
        log.exception("%s %s: the answer could not be made", work["pool"], work["request_id"])
        refusal = Refusal("failed", 500, "The answer could not be made.", "internal_error")
    finally:
        seen.waits = False
        if seen.continuation is not None:
            seen.repeated, seen.continuation.repeated = seen.repeated + seen.continuation.repeated, 0
        seen.ran_s += asyncio.get_running_loop().time() - began
    return refused(refusal, seen.counts, streamed=seen.streamed, first_token_at=seen.first_token_at)


async def _run(
    work: Work,
    pool: Pool,
    engine: Engine,
    screen: Screen,
    channel: Channel,
    seen: Progress,
    clock: asyncio.Timeout,
    ends: float,
) -> Ending | None:
    job, loop = job_of(work, seen.continuation), asyncio.get_running_loop()
    latest, ending = 0.0, False
    async with aclosing(cast(Any, engine.generate(job))) as parts:
        seen.waits = True
        async for part in parts:
            seen.waits = False
            seen.counts = part.counts
            if _tells(part):
                latest = latest or min(loop.time() + max(0.0, pool.timeout_ms / 1000 - seen.ran_s), ends)
                if not seen.first_token_at:
                    seen.first_token_at = now_ms()
                    if work["announce"] and isinstance(part, Piece):
                        await channel.announce()
            if latest:
                clock.reschedule(min(latest, loop.time() + pool.first_token_timeout_ms / 1000))
            if isinstance(part, Final):
                return await _end(work, part, screen, channel, seen)
            await _show(work, screen.piece(part.data), channel, seen)
            if screen.blocked_by is not None:
                return _blocked(work, screen, seen)
            # A pause is between two pieces, all of the one shown and nothing of the next: never before the end itself.
            seen.continuation = part.continuation
            ending = ending or any(choice.get("finish_reason") for choice in part.data.get("choices") or ())
            if seen.pausing and not ending:
                return None
            seen.waits = not ending
    raise RuntimeError(f"engine {engine.kind} ended without an end")


async def _show(work: Work, chunk: dict[str, Any], channel: Channel, seen: Progress) -> None:
    """Keep a moderated chunk for the whole answer, and send what it has to show."""
    seen.assembly.add(chunk)
    if not work["stream"] or not work["reply_to"]:
        return
    choices = [{**c, "finish_reason": None} for c in chunk.get("choices") or () if _shows(c)]
    if choices:
        seen.streamed = True
        await channel.send({**{k: v for k, v in chunk.items() if k != "usage"}, "choices": choices})


def _tells(part: Piece | Final) -> bool:
    """Whether an answer has begun; a chunk that only names the role is no sign of a token."""
    return isinstance(part, Final) or any(map(_shows, part.data.get("choices") or ()))


def _shows(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta") or {}
    return bool(choice.get("text") or choice.get("logprobs") or any(v for k, v in delta.items() if k != "role"))


async def _end(work: Work, final: Final, screen: Screen, channel: Channel, seen: Progress) -> Ending:
    if "choices" in final.body or "data" in final.body:
        body = screen.whole(final.body)
    else:
        await _show(work, screen.finish(), channel, seen)
        body = seen.assembly.body(screen.whole(final.body))
    if screen.blocked_by is not None:
        return _blocked(work, screen, seen)
    whole = {**body, "model": work["model"]}
    if "choices" in body:
        kind = "chat.completion" if work["endpoint"] == CHAT else "text_completion"
        head = {"id": f"chatcmpl-{work['request_id']}", "object": kind}
        whole = {**head, "created": now_ms() // 1000, **whole, **head}
    return Ending("ok", 200, orjson.dumps(whole), seen.counts, seen.streamed, seen.first_token_at, screen.findings())


def _blocked(work: Work, screen: Screen, seen: Progress) -> Ending:
    assert screen.blocked_by is not None
    return blocked(
        screen.blocked_by.message,
        work["request_id"],
        seen.counts,
        streamed=seen.streamed,
        first_token_at=seen.first_token_at,
        findings=screen.findings(),
    )
