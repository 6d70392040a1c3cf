"""A generation of the native llama.cpp server: its prompt, what has come of it over its stops, and its faults. Pure."""

from __future__ import annotations

from typing import Any
from typing import Final as Constant

from workers.engines import Continuation, Job, Piece
from workers.outcome import NO_TOKENS, Counts, Fault, invalid, unavailable

# ChatML without the system prompt of the model's own template, so that admission's bound holds (UTF-8 bytes of the
# contents + 16 per message).
CHATML: Constant = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# With these the next token depends on more than the tokens before it.
BOUND_FIELDS: Constant = ("response_format", "logprobs", "top_logprobs", "logit_bias")
# The number of each token, at no measurable cost: of the candidates that sampling left, the most likely one.
NUMBERED: Constant = {"n_probs": 1, "post_sampling_probs": True}


def chatml(messages: list[dict[str, str]]) -> str:
    """The prompt that CHATML makes of messages."""
    said = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in messages)
    return f"{said}<|im_start|>assistant\n"


def numbered(job: Job) -> bool:
    """Whether an answer that is stopped can go on from its tokens, as if it had not been.

    Random sampling may go on, too: each token is drawn from the same distribution, unless a seed fixes which.
    """
    body = job.body
    free = body.get("temperature") == 0 or body.get("seed") is None
    return free and not any(body.get(name) for name in BOUND_FIELDS)


class Generation:
    """What has come of one; with a job's continuation it goes on there. `numbered`: chunks tell the tokens' numbers."""

    def __init__(self, job: Job, numbered: bool) -> None:
        before = job.continuation
        self._before, self._most, self.numbered = before, job.max_input_tokens, numbered
        self.tokens = list(before.tokens) if before is not None else []
        self.counts = before.counts if before is not None else NO_TOKENS
        self.place = before.place if before is not None else -1
        self._stopped_at = len(self.tokens)
        self._repeated = 0
        self.ended = False

    def take(self, data: dict[str, Any]) -> Piece | None:
        """A chunk; None if it shows nothing. Raises Fault."""
        if "error" in data:
            raise refusal(data["error"], self._most)
        self._count(data.get("timings"))
        if self._most and self.counts.input_tokens > self._most:
            raise too_long(self.counts.input_tokens, self._most, self.counts)
        choices = data.get("choices")
        if not choices:
            return None
        if self.numbered:
            choices = [self._plain(choice) for choice in choices]
        whole = self.numbered and len(self.tokens) == self.counts.output_tokens
        going_on = Continuation(self.counts, self.tokens, self.place, self._repeated) if whole else None
        return Piece({"choices": choices}, self.counts, going_on)

    def _count(self, timings: dict[str, Any] | None) -> None:
        if not timings:
            return
        cached, read = int(timings["cache_n"]), int(timings["prompt_n"])
        output = self._stopped_at + int(timings["predicted_n"])
        if self._before is None:
            self.counts = Counts(cached + read, output, cached)
        elif self._stopped_at:
            # The last token had not been read yet when it was stopped, so reading it repeats nothing.
            self._repeated = max(0, read - 1)
            self.counts = self._before.counts._replace(output_tokens=output)
        else:
            self._repeated = max(0, self._before.counts.input_tokens - cached)
            self.counts = Counts(cached + read, output, min(cached, self._before.counts.cached_tokens))

    def _plain(self, choice: dict[str, Any]) -> dict[str, Any]:
        """As a chat's delta, without the numbers of the tokens that we asked for."""
        numbers = choice.pop("logprobs", None) or {}
        self.tokens += [int(token["id"]) for token in numbers.get("content") or ()]
        if "text" in choice:
            text = choice.pop("text")
            choice["delta"] = {"content": text} if text else {}
        return choice

    def usage(self) -> dict[str, Any]:
        """OpenAI's usage object."""
        asked, answered, cached, _ = self.counts
        total = {"prompt_tokens": asked, "completion_tokens": answered, "total_tokens": asked + answered}
        return {**total, "prompt_tokens_details": {"cached_tokens": cached}}


def too_long(tokens: int, limit: int, counts: Counts = NO_TOKENS) -> Fault:
    """A prompt of more `tokens` than the `limit`."""
    fault = invalid(f"The prompt has {tokens} tokens; this model takes {limit}.", "context_length_exceeded")
    fault.counts = counts
    return fault


def refusal(error: dict[str, Any], max_input_tokens: int) -> Fault:
    """What the server's error object means."""
    if error.get("type") == "exceed_context_size_error":
        return too_long(int(error.get("n_prompt_tokens") or 0), max_input_tokens or int(error.get("n_ctx") or 0))
    message = str(error.get("message"))
    if int(error.get("code") or 500) < 500:
        return invalid(message, "invalid_request")
    return unavailable(message)
