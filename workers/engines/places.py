"""In which of the native server's slots a generation runs, so that what a slot computed is used again. Pure.

A slot keeps the state of what ran in it last. A generation that was stopped finds its own there, unless all others were
taken meanwhile; a new one goes where half of its prompt or more lies already, or else where nothing ran for longest.
"""

from __future__ import annotations

from typing import Final

# A prompt goes to the slot where this part of it lies already; for less, nothing else is thrown away.
WORTH: Final = 0.5
ANY: Final = -1


class _Place:
    __slots__ = ("busy", "held", "prompt", "used")

    def __init__(self) -> None:
        self.prompt = ""
        self.used = 0
        self.busy = self.held = False


class Places:
    """The `count` slots of one server."""

    def __init__(self, count: int) -> None:
        self._places = [_Place() for _ in range(count)]
        self._clock = 0

    def take(self, prompt: str, before: int = ANY) -> int:
        """A free place for `prompt`; `before` is where it was stopped. ANY if none is free: the server finds one."""
        free = [number for number, place in enumerate(self._places) if not place.busy]
        if not free:
            return ANY
        number = before if before in free and self._places[before].prompt == prompt else self._best(free, prompt)
        place = self._places[number]
        place.prompt, place.busy, place.held = prompt, True, False
        return number

    def _best(self, free: list[int], prompt: str) -> int:
        mine = (n for n in free if not self._places[n].held or self._places[n].prompt == prompt)
        free = list(mine) or free
        shared = {number: common(self._places[number].prompt, prompt) for number in free}
        near = [number for number in free if prompt and shared[number] >= WORTH * len(prompt)]
        return max(near, key=lambda n: shared[n]) if near else min(free, key=lambda n: self._places[n].used)

    def leave(self, number: int, *, stopped: bool) -> None:
        """The generation there has ended; what was `stopped` may come back."""
        if number != ANY:
            self._clock += 1
            place = self._places[number]
            place.busy, place.held, place.used = False, stopped, self._clock


def common(a: str, b: str) -> int:
    """Characters that two texts begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a.startswith(b[:middle]) else (low, middle - 1)
    return low
