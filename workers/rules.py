"""The rule sets in force, by content hash. A rule set that stays unknown fails closed."""

from __future__ import annotations

import asyncio
from typing import Final

from streams.moderation import Moderator

# Work may arrive before the configuration that names its rules; both come within moments.
WAIT_S: Final = 5.0


class UnknownRules(LookupError):
    """No such rule set, also not after waiting."""


class Rules:
    """Compiled rule sets; `find` waits for one that is on its way."""

    def __init__(self) -> None:
        self._moderators: dict[str, Moderator] = {}
        self._changed = asyncio.Event()

    def replace(self, moderators: dict[str, Moderator]) -> None:
        """These are in force now."""
        self._moderators = moderators
        self._changed.set()

    async def find(self, rules_hash: str) -> Moderator | None:
        """The moderator of a rule set; None for the empty hash, which stands for no rules. Raises UnknownRules."""
        if not rules_hash:
            return None
        until = asyncio.get_running_loop().time() + WAIT_S
        while rules_hash not in self._moderators:
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                raise UnknownRules(rules_hash) from None
        return self._moderators[rules_hash]
