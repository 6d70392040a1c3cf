"""What of an answer may leave: moderation and the upstream's key, on whole answers and on chunks. Pure.

Every text of a choice is looked at: content, reasoning, refusals, tool calls, legacy text, and what we do not know. A
text that grows over chunks is held back as far as a later chunk could complete a match. Log probabilities repeat the
text token by token, so they leave only with text that left unchanged.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

from schemas.config import Rule
from schemas.records import Finding
from streams.moderation import Moderator, StreamModerator
from workers.assemble import WHOLE, merge

STARS: Final = "***"
# Of a choice, what is no text of the answer.
NOT_TEXT: Final = frozenset({"index", "finish_reason", "logprobs"})

Path = tuple[str | int, ...]


class _Filter(Protocol):
    def feed(self, piece: str) -> str: ...

    def finish(self) -> str: ...


class KeyFilter:
    """Replaces a secret in a text that arrives in pieces; holds back what may be its beginning."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._held = ""
        self.hit = False

    def feed(self, piece: str) -> str:
        """Take a piece, return what may be shown."""
        text = self._held + piece
        if self._secret in text:
            self.hit = True
            text = text.replace(self._secret, STARS)
        most = min(len(text), len(self._secret) - 1)
        keep = next((n for n in range(most, 0, -1) if text.endswith(self._secret[:n])), 0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """The rest."""
        text, self._held = self._held, ""
        return text


class _Text:
    """One growing text: the path of filters it goes through, and how much of it is held."""

    def __init__(self, moderator: Moderator | None, secret: str) -> None:
        self.key = KeyFilter(secret) if secret else None
        self.moderator = StreamModerator(moderator) if moderator else None
        self._filters: list[_Filter] = [f for f in (self.key, self.moderator) if f is not None]
        self.held = 0

    def feed(self, piece: str) -> str:
        taken = len(piece)
        for one in self._filters:
            piece = one.feed(piece)
        self.held += taken - len(piece)
        return piece

    def finish(self) -> str:
        text = ""
        for one in self._filters:
            text = one.feed(text) + one.finish()
        self.held = 0
        return text

    @property
    def altered(self) -> bool:
        hit = self.key is not None and self.key.hit
        return hit or (self.moderator is not None and any(f.rule.action == "mask" for f in self.moderator.found))


class Screen:
    """Filters one answer. `moderator` None: no rules; `secret` empty: none."""

    def __init__(self, moderator: Moderator | None, secret: str = "") -> None:
        self._moderator = moderator if moderator is not None and moderator.applies("response") else None
        self._secret = secret
        self._texts: dict[Path, _Text] = {}
        self._counts: dict[str, tuple[Rule, int]] = {}
        self._altered: set[int] = set()
        self._logprobs: dict[int, list[dict[str, Any]]] = {}
        self.blocked_by: Rule | None = None

    @property
    def passes_all(self) -> bool:
        """Whether there is nothing to look for."""
        return self._moderator is None and not self._secret

    def findings(self) -> tuple[Finding, ...]:
        """The rules that matched, with how often."""
        counts = dict(self._counts)
        for text in self._texts.values():
            for rule, matches in text.moderator.found if text.moderator else ():
                counts[rule.id] = (rule, matches + counts.get(rule.id, (rule, 0))[1])
        return tuple({"rule": i, "action": rule.action, "matches": n} for i, (rule, n) in counts.items())

    def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        """A whole answer, as it may leave; meaningless once `blocked_by` is set."""
        if self.passes_all:
            return body
        choices = [self._whole_choice(choice) for choice in body.get("choices") or ()]
        rest = hide({k: v for k, v in body.items() if k != "choices"}, self._secret)
        return {**rest, **({"choices": choices} if "choices" in body else {})}

    def _whole_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        out = {k: v if k in NOT_TEXT else self._check(v) for k, v in choice.items()}
        changed = any(out[k] != v for k, v in choice.items())
        return {**out, "logprobs": None} if changed and choice.get("logprobs") else out

    def _check(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {hide(k, self._secret): self._check(v) for k, v in value.items()}
        if isinstance(value, list):
            return [self._check(v) for v in value]
        if not isinstance(value, str) or not value:
            return value
        text = value.replace(self._secret, STARS) if self._secret else value
        if self._moderator is None:
            return text
        outcome = self._moderator.check(text, "response")
        for rule, matches in outcome.found:
            self._counts[rule.id] = (rule, matches + self._counts.get(rule.id, (rule, 0))[1])
        self.blocked_by = self.blocked_by or outcome.blocked_by
        return outcome.text

    def piece(self, chunk: dict[str, Any]) -> dict[str, Any]:
        """A chunk, as far as it may leave now; empty once `blocked_by` is set."""
        if self.passes_all:
            return chunk
        choices = [self._piece_choice(choice) for choice in chunk.get("choices") or ()]
        rest = hide({k: v for k, v in chunk.items() if k != "choices"}, self._secret)
        return {} if self.blocked_by else {**rest, "choices": choices}

    def _piece_choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        index = choice.get("index", 0)
        out = {k: v if k in NOT_TEXT else self._feed(v, (index, k), k) for k, v in choice.items()}
        if choice.get("logprobs"):
            self._logprobs.setdefault(index, []).append(choice["logprobs"])
        out["logprobs"] = self._release(index)
        return out

    def _feed(self, value: Any, path: Path, key: str) -> Any:
        if isinstance(value, dict):
            return {hide(k, self._secret): self._feed(v, (*path, k), k) for k, v in value.items()}
        if isinstance(value, list):
            at = [v.get("index", i) if isinstance(v, dict) else i for i, v in enumerate(value)]
            return [self._feed(v, (*path, i), key) for i, v in zip(at, value, strict=True)]
        if not isinstance(value, str) or not value:
            return value
        if key in WHOLE:
            return self._check(value)
        text = self._texts.get(path)
        if text is None:
            text = self._texts[path] = _Text(self._moderator, self._secret)
        shown = text.feed(value)
        self._note(text, path)
        return shown

    def _note(self, text: _Text, path: Path) -> None:
        if text.altered:
            self._altered.add(int(path[0]))
        if text.moderator is not None and text.moderator.blocked_by is not None:
            self.blocked_by = self.blocked_by or text.moderator.blocked_by

    def _release(self, index: int) -> dict[str, Any] | None:
        pending = self._logprobs.get(index)
        if not pending or index in self._altered:
            return None
        if any(text.held for path, text in self._texts.items() if path[0] == index):
            return None
        del self._logprobs[index]
        out: dict[str, Any] = {}
        for part in pending:
            for key, value in part.items():
                out[key] = (out.get(key) or []) + value if isinstance(value, list) else value
        return out

    def finish(self) -> dict[str, Any]:
        """A chunk with all that was held back, at the end of the answer: one choice for each index."""
        rests = [(path, text.finish()) for path, text in self._texts.items()]
        for path, _ in rests:
            self._note(self._texts[path], path)
        choices: dict[int, dict[str, Any]] = {}
        for path, rest in rests:
            if rest:
                merge(choices.setdefault(int(path[0]), {}), _nest(path, rest))
        for index in list(self._logprobs):
            choices.setdefault(index, {"index": index})["logprobs"] = self._release(index)
        return {} if self.blocked_by else {"choices": list(choices.values())}


def _nest(path: Path, text: str) -> dict[str, Any]:
    """A choice that holds only `text`, at `path`."""
    value: Any = text
    for step in reversed(path[1:]):
        value = (
            {step: value} if isinstance(step, str) else [{"index": step, **value}] if isinstance(value, dict) else value
        )
    return {"index": path[0], **value}


def hide(value: Any, secret: str) -> Any:
    """`value` with `secret` replaced in every string, keys included."""
    if not secret:
        return value
    if isinstance(value, str):
        return value.replace(secret, STARS)
    if isinstance(value, dict):
        return {hide(k, secret): hide(v, secret) for k, v in value.items()}
    if isinstance(value, list):
        return [hide(v, secret) for v in value]
    return value
