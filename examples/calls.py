"""The real-time calls of the demo: one streamed answer, and two tenants who ask the same."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam

from examples.tickets import Unmet

MODEL: Final = "smollm2-135m"
# (tenant, model, question). The second is answered from the first; globex has no part in what acme was answered.
PLAN: Final = (
    ("acme", MODEL, "Name one cause of a late parcel."),
    ("acme", MODEL, "Name one cause of a late parcel."),
    ("globex", MODEL, "Name one cause of a late parcel."),
    ("acme", "echo", "An echo costs nothing to compute."),
    ("globex", "echo", "An echo costs nothing to compute."),
)
STORY: Final = "Explain to a customer in two sentences why parcels are sometimes late."
STORY_TOKENS: Final = 96
CALL_TOKENS: Final = 20


@dataclass(frozen=True, slots=True)
class Call:
    """One answered call. `after_ms` is the time to its first token if it was streamed, else to its end."""

    request_id: str
    tenant: str
    model: str
    cache: str
    after_ms: int
    text: str


def _ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def streamed(client: OpenAI, tenant: str, show: Callable[[str], None]) -> Call:
    """Stream one answer, piece by piece to `show`. Never from the cache, so that there is something to watch."""
    began, first_ms, text = time.monotonic(), 0, ""
    stream = client.chat.completions.create(
        model=MODEL,
        messages=_ask(STORY),
        max_tokens=STORY_TOKENS,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_headers={"x-millrace-cache": "off"},
    )
    usage = None
    for chunk in stream:
        usage = chunk.usage or usage
        piece = (chunk.choices[0].delta.content or "") if chunk.choices else ""
        if piece and not text:
            first_ms = int((time.monotonic() - began) * 1000)
        text += piece
        show(piece)
    if not text or usage is None:
        raise Unmet("the streamed answer had no text, or no usage at its end")
    head = stream.response.headers
    return Call(head["x-request-id"], tenant, MODEL, head["x-millrace-cache"], first_ms, text)


def asked(client: OpenAI, tenant: str, model: str, question: str) -> Call:
    """Ask one question and wait for the answer."""
    began = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=model, messages=_ask(question), max_tokens=CALL_TOKENS, temperature=0
    )
    text = raw.parse().choices[0].message.content or ""
    after_ms = int((time.monotonic() - began) * 1000)
    return Call(raw.headers["x-request-id"], tenant, model, raw.headers["x-millrace-cache"], after_ms, text)


def check(calls: list[Call]) -> None:
    """Raises Unmet unless the calls of PLAN were answered, and the repeated question only once."""
    first, second = calls[0], calls[1]
    if second.cache != "hit" or second.text != first.text:
        raise Unmet(f"a repeated question should be a hit with the same answer, not {second.cache}: {second.text!r}")
    for call in calls:
        if call.model == "echo" and call.text != PLAN[-1][2]:
            raise Unmet(f"echo answered {call.text!r} to {PLAN[-1][2]!r}")
