"""How an attempt ends, and the Completion that says so. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import orjson

from schemas.records import Completion, Finding, Work
from streams.guard import guard_body

Outcome = Literal["ok", "blocked", "cancelled", "expired", "interrupted", "invalid", "unavailable", "failed"]

# A record holds 8 MiB (schemas.topics.MAX_RECORD_BYTES); the other fields are far below the rest.
MAX_BODY_BYTES: Final = 7 * 1024 * 1024


class Counts(NamedTuple):
    """Tokens as the engine counted them."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0


NO_TOKENS: Final = Counts()


class Refusal(NamedTuple):
    """Why an attempt ends without an answer. `body` replaces the error body where an upstream gave one."""

    outcome: Outcome
    http_status: int
    message: str
    code: str
    body: bytes = b""


class Fault(Exception):
    """An engine could not answer; `counts` is what it spent all the same."""

    def __init__(self, refusal: Refusal, counts: Counts = NO_TOKENS) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
        self.counts = counts


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of an attempt, moderated. `first_token_at` in ms UTC, 0 when no token appeared; `fault` is a code."""

    outcome: Outcome
    http_status: int
    body: bytes
    counts: Counts = NO_TOKENS
    streamed: bool = False
    first_token_at: int = 0
    findings: tuple[Finding, ...] = ()
    fault: str = ""


def invalid(message: str, code: str, http_status: int = 400) -> Fault:
    """The caller's fault; no other pool would take it."""
    return Fault(Refusal("invalid", http_status, message, code))


def unavailable(message: str, counts: Counts = NO_TOKENS) -> Fault:
    """The pool's fault; the next pool of the route may do better."""
    return Fault(Refusal("unavailable", 503, message, "pool_unavailable"), counts)


def stopped(reason: str) -> Refusal:
    """A request that was taken back. `reason` as in Control: cancelled | expired | interrupted."""
    if reason == "expired":
        return Refusal("expired", 504, "The request was not finished before its deadline.", "request_timeout")
    if reason == "interrupted":
        return Refusal("interrupted", 502, "The answer was interrupted.", "interrupted")
    return Refusal("cancelled", 499, "The request was cancelled.", "request_cancelled")


def before(work: Work, now_ms: int, stop_reason: str | None, *, begun: bool = False) -> Refusal | None:
    """Why `work` must not start at `now_ms`; None if it may. Once `begun`, it goes on after `start_by`, too."""
    if stop_reason is not None:
        return stopped(stop_reason)
    if work["deadline"] and now_ms > work["deadline"]:
        return stopped("expired")
    if work["start_by"] and not begun and now_ms > work["start_by"]:
        return Refusal("unavailable", 503, "No worker of the pool was free in time.", "pool_busy")
    return None


def refused(refusal: Refusal, counts: Counts = NO_TOKENS, *, streamed: bool = False, first_token_at: int = 0) -> Ending:
    """The end of an attempt without an answer. After a chunk has left, no other pool may try: it is interrupted."""
    outcome, status = refusal.outcome, refusal.http_status
    if streamed and outcome in ("unavailable", "failed", "invalid"):
        outcome, status = "interrupted", 502
    kind = "invalid_request_error" if outcome == "invalid" else "server_error"
    body = refusal.body or error_body(refusal.message, kind, refusal.code)
    return Ending(outcome, status, body, counts, streamed, first_token_at, fault=refusal.code)


def blocked(message: str, request_id: str, counts: Counts, **rest: Any) -> Ending:
    """An answer that may not be shown: the guard's message stands in its place."""
    return Ending("blocked", 200, orjson.dumps(guard_body(message, request_id)), counts, **rest)


def error_body(message: str, kind: str, code: str | None, param: str | None = None) -> bytes:
    """An error in OpenAI's shape, UTF-8 JSON."""
    return orjson.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


def completion(
    work: Work, ending: Ending, *, attempt: str, worker: str, engine: tuple[str, str, str], started: int, finished: int
) -> Completion:
    """The record of `ending`. `engine` is (kind, model version, precision); times in ms UTC."""
    if len(ending.body) > MAX_BODY_BYTES:
        large = Refusal("failed", 502, "The answer is too large to be kept.", "answer_too_large")
        ending = refused(large, ending.counts, streamed=ending.streamed, first_token_at=ending.first_token_at)
    kind, model_version, precision = engine
    return {
        "tenant": work["tenant"],
        "request_id": work["request_id"],
        "attempt": attempt,
        "step": work["step"],
        "pool": work["pool"],
        "worker": worker,
        "engine": kind,
        "model_version": model_version,
        "precision": precision,
        "outcome": ending.outcome,
        "http_status": ending.http_status,
        "body": ending.body,
        "input_tokens": ending.counts.input_tokens,
        "output_tokens": ending.counts.output_tokens,
        "cached_tokens": ending.counts.cached_tokens,
        "reasoning_tokens": ending.counts.reasoning_tokens,
        "streamed": ending.streamed,
        "started_at": started,
        "first_token_at": ending.first_token_at or finished,
        "finished_at": finished,
        "findings": list(ending.findings),
        "model": work["model"],
        "shadow_of": work["shadow_of"],
    }
