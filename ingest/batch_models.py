"""What the batcher has to know of the configuration: which models exist, and how much their pools do at once. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.config import ConfigDocument
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

    def slots(self, name: str) -> int:
        """Requests that the pools a model prefers run at once; 0 if the model is gone."""
        model = self._config.models.get(self.real(name))
        if model is None:
            return JUDGED_SLOTS if name in judging.NAMES else 0
        if model.split:
            return sum(self.slots(share.model) for share in model.split if share.weight)
        return self._config.pools[model.route[0]].concurrency
