"""What the batcher has to know of the configuration: which models exist, and how much their pools do at once. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import msgspec

from schemas.config import ConfigDocument, Model, Pool
from schemas.limits import AT_CREATE, Limit
from streams import judging

# What admission answers itself, at once, runs nowhere; this many on their way keep it busy.
JUDGED_SLOTS: Final = 256


class Models:
    """A view of one configuration."""

    def __init__(self, config: ConfigDocument) -> None:
        self._config = config

    def knows(self, name: str) -> bool:
        """Whether a caller may ask for `name`."""
        return name in self._config.models or name in self._config.aliases

    def known_at(self, endpoint: str) -> Callable[[str], bool]:
        """Which names a caller may ask for at `endpoint`."""
        return judging.NAMES.__contains__ if endpoint == judging.MODERATIONS else self.knows

    def real(self, name: str) -> str:
        """The model that `name` means, if it is an alias."""
        return self._config.aliases.get(name, name)

    def pools(self) -> frozenset[str]:
        """Every pool."""
        return frozenset(self._config.pools)

    def routes(self, name: str) -> tuple[str, ...]:
        """The pools that a model's requests may go to, those of its shares together; none if the model is gone."""
        model = self._config.models.get(self.real(name))
        if model is None:
            return ()
        if model.split:
            return tuple(dict.fromkeys(p for share in model.split if share.weight for p in self.routes(share.model)))
        return model.route

    def candidates(self, name: str) -> list[tuple[Model, list[Pool]]]:
        """The models that may answer for a name, each with the pools of its route; none if the model is gone."""
        model = self._config.models.get(self.real(name))
        if model is None:
            return []
        if model.split:
            return [found for share in model.split if share.weight for found in self.candidates(share.model)]
        return [(model, [self._config.pools[pool] for pool in model.route])]

    def fingerprint(self, name: str) -> str:
        """Names the pools of a model as they are: what was measured of others says nothing of them."""
        pools = {name: self._config.pools[name] for name in self.routes(name)}
        return hashlib.sha256(msgspec.json.encode(pools, order="deterministic")).hexdigest()[:12]

    def limits(self, tenant: str, key_id: str, name: str) -> tuple[Limit, ...]:
        """The limits that count a tenant's requests for a model by a key."""
        found, real = self._config.settings.get(tenant), self.real(name)
        limits = [x for x in found.limits if x.on not in AT_CREATE] if found else []
        return tuple(x for x in limits if x.key in ("", key_id) and x.model in ("", name, real))

    def at_create(self, tenant: str, key_id: str) -> tuple[Limit, ...]:
        """The limits on what a tenant's batches may have waiting, as far as they count those of a key."""
        found = self._config.settings.get(tenant)
        return tuple(x for x in found.limits if x.on in AT_CREATE and x.key in ("", key_id)) if found else ()

    def prepaid(self, tenant: str) -> bool:
        """Whether a tenant pays in advance."""
        found = self._config.settings.get(tenant)
        return found is not None and found.prepaid

    def slots(self, name: str) -> int:
        """Requests that the pools a model prefers run at once; 0 if the model is gone."""
        model = self._config.models.get(self.real(name))
        if model is None:
            return JUDGED_SLOTS if name in judging.NAMES else 0
        if model.split:
            return sum(self.slots(share.model) for share in model.split if share.weight)
        return self._config.pools[model.route[0]].concurrency
