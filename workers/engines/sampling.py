"""What a job asks of an engine that samples by itself: limits, temperature, stop texts. Pure.

What such an engine cannot do is refused, not left out: the caller would take another answer for the one asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from typing import Final as Constant

from workers.engines import CHAT, COMPLETIONS, Job
from workers.outcome import invalid

# OpenAI's bound; more of them only cost time at every token.
MOST_STOPS: Constant = 16
REFUSED: Constant = {
    "tools": "This model does not call tools.",
    "logprobs": "This model does not tell log probabilities.",
    "logit_bias": "This model takes no logit_bias.",
    "frequency_penalty": "This model takes no frequency_penalty.",
    "presence_penalty": "This model takes no presence_penalty.",
    "min_p": "This model takes no min_p.",
    "echo": "This model does not repeat the prompt.",
}


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 is greedy; `top_k` 0 is no bound; `max_tokens` 0 is as many as there is room for."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    stops: tuple[str, ...]


def sampling_of(job: Job) -> Sampling:
    """What `job` asks for. Raises Fault for what is no possible value, or cannot be done."""
    body = job.body
    if job.endpoint not in (CHAT, COMPLETIONS):
        raise invalid(f"This model does not serve {job.endpoint}.", "endpoint_not_supported")
    for name, message in REFUSED.items():
        if body.get(name):
            raise invalid(message, f"{name}_not_supported")
    if body.get("n") not in (None, 1):
        raise invalid("This model gives one choice.", "n_not_supported")
    form = body.get("response_format")
    if form and (not isinstance(form, dict) or form.get("type") != "text"):
        raise invalid("This model answers in plain text only.", "response_format_not_supported")
    return Sampling(
        job.output_limit(),
        _number(body, "temperature", 1.0, 0.0, 100.0),
        _number(body, "top_p", 1.0, 0.0, 1.0),
        int(_number(body, "top_k", 0, 0, 1_000_000)),
        _stops(body.get("stop")),
    )


def _number(body: dict[str, Any], name: str, default: float, least: float, most: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise invalid(f"`{name}` must be a number from {least:g} to {most:g}.", "invalid_request")
    return float(value)


def _stops(value: Any) -> tuple[str, ...]:
    stops = [value] if isinstance(value, str) else value or []
    if not isinstance(stops, list) or len(stops) > MOST_STOPS or not all(isinstance(s, str) for s in stops):
        raise invalid(f"`stop` must be a string, or a list of at most {MOST_STOPS}.", "invalid_request")
    return tuple(s for s in stops if s)
