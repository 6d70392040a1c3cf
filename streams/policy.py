"""A tenant's policy, compiled for deciding. Pure."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from schemas import config
from schemas.config import Limit, Model, PolicyDocument, Pool
from streams.moderation import Moderator

DEFAULT_ALIAS: Final = "default"


class Target(NamedTuple):
    """What a request asked for, resolved."""

    name: str
    model: Model
    pools: list[Pool]


class Policy:
    """Decides which model, which route and which rules apply. Built from the JSON of a Policy record."""

    def __init__(self, text: str) -> None:
        self.document: PolicyDocument = config.decode_policy(text)
        self.moderator = Moderator.of(self.document.rules, self.document.rules_hash)
        self.limits: tuple[Limit, ...] = self.document.limits

    @property
    def version(self) -> str:
        """Version of the configuration it came from."""
        return self.document.version

    @property
    def answer_rules(self) -> str:
        """Content hash of the rules for answers; empty if none looks at answers."""
        return self.document.rules_hash if self.moderator.applies("response") else ""

    def resolve(self, requested: str, sides: dict[str, str]) -> Target | None:
        """The model meant by `requested` (a model, an alias, or empty for the default); None if there is none.

        `sides` gives the values a split may stick to: tenant, user, key, request.
        """
        name = requested or DEFAULT_ALIAS
        name = self.document.aliases.get(name, name)
        model = self.document.models.get(name)
        if model is not None and model.split:
            name = split(name, model, sides[model.sticky])
            model = self.document.models.get(name)
        if model is None:
            return None
        return Target(name, model, [self.document.pools[p] for p in model.route])


def split(name: str, model: Model, side: str) -> str:
    """The share that `side` falls into: by SHA-256, so the same side always falls the same way."""
    total = sum(s.weight for s in model.split)
    point = int.from_bytes(hashlib.sha256(f"{name}\n{side}".encode()).digest()[:8], "big") % total
    for share in model.split:
        if point < share.weight:
            return share.model
        point -= share.weight
    raise AssertionError("the point lies below the total weight")
