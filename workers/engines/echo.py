"""The engine that repeats: its answer can be computed by anyone, so a test can know what a run must have produced.

Content is the text of the last user message, cut to max_tokens words; a token is a word.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any
from typing import Final as Constant

from schemas.config import Pool
from workers.engines import CHAT, COMPLETIONS, Continuation, Final, Job, Piece
from workers.outcome import Counts, invalid

WORD: Constant = re.compile(r"\s*\S+")


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or parts of which those of type text count."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = (p for p in content if isinstance(p, dict) and p.get("type") == "text")
        return "".join(str(p.get("text") or "") for p in parts)
    return ""


def prompt(job: Job) -> tuple[str, int]:
    """(the text to repeat, words of the whole prompt). Raises Fault on an endpoint that echo does not serve."""
    if job.endpoint == COMPLETIONS:
        given = job.body.get("prompt") or ""
        text = given if isinstance(given, str) else "".join(p for p in given if isinstance(p, str))
        return text, len(text.split())
    if job.endpoint != CHAT:
        raise invalid(f"This model does not serve {job.endpoint}.", "endpoint_not_supported")
    last, words = "", 0
    for message in job.body.get("messages") or ():
        text = text_of(message.get("content")) if isinstance(message, dict) else ""
        words += len(text.split())
        if isinstance(message, dict) and message.get("role") == "user":
            last = text
    return last, words


def cut(text: str, limit: int) -> tuple[str, int, str]:
    """(content, its words, finish reason): `text` as it is if it has at most `limit` words (0: no limit)."""
    words = text.split()
    if limit and len(words) > limit:
        return " ".join(words[:limit]), limit, "length"
    return text, len(words), "stop"


def pieces(content: str) -> list[str]:
    """The content, one word a piece; their concatenation is exactly the content."""
    parts = WORD.findall(content)
    if not parts:
        return [content] if content else []
    parts[-1] += content[sum(map(len, parts)) :]
    return parts


class Echo:
    """The echo engine of one pool."""

    kind = "echo"
    model_version = "echo"
    precision = ""
    secret = ""

    def __init__(self, pool: Pool) -> None:
        self._first_s = pool.first_token_ms / 1000
        self._each_s = pool.token_ms / 1000

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """Words as pieces where a stream is wanted or words take time; else the whole answer."""
        text, asked = prompt(job)
        if job.max_input_tokens and asked > job.max_input_tokens:
            raise invalid(
                f"The prompt has {asked} tokens; this model takes {job.max_input_tokens}.", "context_length_exceeded"
            )
        content, answered, reason = cut(text, job.output_limit())
        counts = Counts(asked, answered)
        chat = job.endpoint == CHAT
        done = job.continuation.counts.output_tokens if job.continuation else 0
        if self._first_s and not done:
            await asyncio.sleep(self._first_s)
        if not job.stream and not self._each_s:
            yield Final(_whole(content, counts, reason, chat=chat), counts)
            return
        for number, piece in enumerate(pieces(content), start=1):
            if number <= done:
                continue
            if self._each_s and number > 1:
                await asyncio.sleep(self._each_s)
            so_far = Counts(asked, min(number, answered))
            yield Piece(_chunk(piece, chat=chat), so_far, Continuation(so_far))
        yield Piece(_chunk("", chat=chat, reason=reason), counts)
        yield Final({"usage": _usage(counts)}, counts)

    async def warm(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        """Nothing to let go of."""


def _usage(counts: Counts) -> dict[str, int]:
    asked, answered = counts.input_tokens, counts.output_tokens
    return {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}


def _whole(content: str, counts: Counts, reason: str, *, chat: bool) -> dict[str, Any]:
    answer = {"message": {"role": "assistant", "content": content}} if chat else {"text": content}
    choice = {"index": 0, **answer, "logprobs": None, "finish_reason": reason}
    return {"choices": [choice], "usage": _usage(counts)}


def _chunk(piece: str, *, chat: bool, reason: str | None = None) -> dict[str, Any]:
    answer = {"delta": {"content": piece}} if chat else {"text": piece}
    return {"choices": [{"index": 0, **answer, "logprobs": None, "finish_reason": reason}]}
