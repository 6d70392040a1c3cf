"""The port to inference engines. An engine turns a job into pieces of an answer and its end; it knows no Kafka.

Pieces are OpenAI chunks as the engine made them; the worker gives them identity, moderates and assembles them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from schemas.config import Pool
from workers.outcome import Counts, unavailable

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
EMBEDDINGS = "/v1/embeddings"


@dataclass(slots=True)
class Continuation:
    """How far a generation has come, for the engine to go on exactly there after it was stopped.

    `counts` are of all of it; `tokens` were generated, in the engine's numbering; `place` is where the engine may still
    hold its state; `repeated` counts the tokens that were computed again to take it up.
    """

    counts: Counts
    tokens: list[int] = field(default_factory=list)
    place: int = -1
    repeated: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """What an engine needs of a request. Limits in tokens, 0 is none; `stream` says that pieces are wanted.

    With a `continuation` the answer is taken up there: pieces bring only what is new, counts are of all of it.
    """

    request_id: str
    endpoint: str
    model: str
    body: dict[str, Any]
    stream: bool
    max_input_tokens: int
    max_output_tokens: int
    lane: str = ""
    continuation: Continuation | None = None

    def output_limit(self) -> int:
        """The caller's max_tokens within the limit that was reserved; 0 when there is neither."""
        asked = self.body.get("max_completion_tokens") or self.body.get("max_tokens") or 0
        limits = [n for n in (asked, self.max_output_tokens) if isinstance(n, int) and n > 0]
        return min(limits, default=0)


class Piece(NamedTuple):
    """A chunk of the answer (OpenAI's chat.completion.chunk), the tokens counted so far, and how to go on after it.

    Without a continuation, an answer that is stopped here can only begin anew.
    """

    data: dict[str, Any]
    counts: Counts
    continuation: Continuation | None = None


class Final(NamedTuple):
    """The end of an answer. `body` is a whole answer, or, after pieces, what its top level has beside `choices`."""

    body: dict[str, Any]
    counts: Counts


class Engine(Protocol):
    """Runs jobs, any number at once. `kind` as in the configuration."""

    kind: str
    model_version: str
    precision: str
    # A text that must never leave, such as the upstream's key.
    secret: str

    def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """Pieces, then one Final. Closing the iterator stops the generation. Raises workers.outcome.Fault."""
        ...

    async def warm(self) -> None:
        """Load what the first job would wait for. Raises Fault."""
        ...

    async def close(self) -> None:
        """Let go of everything; running jobs end."""
        ...


@dataclass(frozen=True, slots=True)
class Setting:
    """All that an engine is made from; an engine is replaced when it changes. `context_tokens` is per request."""

    name: str
    pool: Pool
    context_tokens: int


def can_stop(pool: Pool) -> bool:
    """Whether running work of a pool may be stopped to be taken up later, or begun anew, without harm to its engine."""
    return pool.engine != "openai" or pool.preempt


def open_engine(setting: Setting) -> Engine:
    """The engine of a pool. Imports only the library that this kind needs; loads nothing yet. Raises Fault."""
    if setting.pool.engine == "echo":
        from workers.engines.echo import Echo

        return Echo(setting.pool)
    if setting.pool.engine == "llama":
        from workers.engines.llama import Llama

        return Llama(setting)
    if setting.pool.engine == "openai":
        from workers.engines.openai import OpenAI

        return OpenAI(setting)
    if setting.pool.engine == "static":
        from workers.engines.static import Static

        return Static(setting.pool)
    if setting.pool.engine == "transformers":
        from workers.engines.transformers_engine import Transformers

        return Transformers(setting)
    raise unavailable(f"This worker has no engine {setting.pool.engine!r}.")
