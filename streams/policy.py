"""A tenant's policy, compiled for deciding. Pure."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from schemas import config
from schemas.config import Model, PolicyDocument, Pool, Share
from schemas.limits import Limit
from streams.moderation import Moderator

DEFAULT_ALIAS: Final = "default"
# Combinations of key and model whose limits are kept at hand; callers choose names of models.
MOST_APPLYING: Final = 4_096


class Target(NamedTuple):
    """What a request asked for, resolved."""

    name: str
    model: Model
    pools: list[Pool]
    cohort: str = ""


class Policy:
    """Decides which model, which route and which rules apply. Built from the JSON of a Policy record."""

    def __init__(self, text: str) -> None:
        self.document: PolicyDocument = config.decode_policy(text)
        self.moderator = Moderator.of(self.document.rules, self.document.rules_hash)
        self.limits: tuple[Limit, ...] = self.document.limits
        self._applying: dict[tuple[str, str, str], list[Limit]] = {}

    @property
    def version(self) -> str:
        """Version of the configuration it came from."""
        return self.document.version

    @property
    def answer_rules(self) -> str:
        """Content hash of the rules for answers; empty if none looks at answers."""
        return self.document.rules_hash if self.moderator.applies("response") else ""

    @property
    def judges(self) -> str:
        """Names what judges prompts and answers."""
        guard = self.document.guard
        return f"{self.document.rules_hash}/{guard.pool if guard else ''}"

    def resolve(self, requested: str, sides: dict[str, str]) -> Target | None:
        """The model meant by `requested` (a model, an alias, or empty for the default); None if there is none.

        `sides` gives the values a split may stick to: tenant, user, key, request.
        """
        name = requested or DEFAULT_ALIAS
        name = self.document.aliases.get(name, name)
        model = self.document.models.get(name)
        cohort = ""
        if model is not None and model.split:
            share = split(name, model, sides[model.sticky])
            name, cohort = share.model, share.cohort or share.model
            model = self.document.models.get(name)
        if model is None:
            return None
        return Target(name, model, [self.document.pools[p] for p in model.route], cohort)

    def applying(self, key_id: str, model: str, requested: str) -> list[Limit]:
        """The limits that count a request of this key for this model. The caller changes nothing of it."""
        known = self._applying.get((key_id, model, requested))
        if known is None:
            if len(self._applying) >= MOST_APPLYING:
                self._applying.clear()
            known = [x for x in self.limits if x.key in ("", key_id) and x.model in ("", model, requested)]
            self._applying[key_id, model, requested] = known
        return known


def point(name: str, side: str, total: int) -> int:
    """Where `side` falls among `total` points, by SHA-256: the same side always falls the same way."""
    return int.from_bytes(hashlib.sha256(f"{name}\n{side}".encode()).digest()[:8], "big") % total


def split(name: str, model: Model, side: str) -> Share:
    """The share that `side` falls into."""
    at = point(name, side, sum(s.weight for s in model.split))
    for share in model.split:
        if at < share.weight:
            return share
        at -= share.weight
    raise AssertionError("the point lies below the total weight")
