"""When something is due for which request: ids by second, in pages, so that adding one writes little. Pure."""

from __future__ import annotations

from typing import Final

from schemas.wire import StateCodec
from streams.stores import Stores

PAGE_IDS: Final = 64
SECOND_MS: Final = 1_000


def moment_of(due_ms: int) -> int:
    """The moment at which something due at `due_ms` is looked at: the next full second."""
    return -(-due_ms // SECOND_MS) * SECOND_MS


class Agenda:
    """Moments, ascending, each with its pages of request ids."""

    def __init__(self, stores: Stores, codec: StateCodec) -> None:
        self._stores, self._codec = stores, codec
        data = stores.agenda.get()
        moments = codec.decode("Agenda", data)["moments"] if data else []
        self._pages_of: dict[int, int] = {m["due"]: m["pages"] for m in moments}
        self._earliest = min(self._pages_of, default=None)
        self._last: dict[int, list[str]] = {}
        self._new: list[int] = []
        self._changed = False

    def remind(self, request_id: str, due_ms: int) -> None:
        """Have `request_id` looked at once `due_ms` (rounded up to a second) has come."""
        moment = moment_of(due_ms)
        pages = self._pages_of.get(moment, 0)
        ids = self._last_page(moment, pages)
        if pages == 0 or len(ids) >= PAGE_IDS:
            if pages == 0:
                self._new.append(moment)
                self._earliest = moment if self._earliest is None else min(self._earliest, moment)
            pages += 1
            self._pages_of[moment] = pages
            self._changed = True
            ids = []
        ids.append(request_id)
        self._last[moment] = ids
        self._stores.pages.put(f"{moment}/{pages}", "\n".join(ids).encode())

    def _last_page(self, moment: int, pages: int) -> list[str]:
        if pages and moment not in self._last:
            data = self._stores.pages.get(f"{moment}/{pages}")
            self._last[moment] = data.decode().split("\n") if data else []
        return self._last.get(moment, [])

    def due(self, now_ms: int) -> int | None:
        """The earliest moment due by `now_ms`, or None."""
        return self._earliest if self._earliest is not None and self._earliest <= now_ms else None

    def take(self, moment: int) -> list[str]:
        """Ids due at a moment, in the order they were added; the moment is removed."""
        ids: list[str] = []
        for page in range(1, self._pages_of.pop(moment) + 1):
            data = self._stores.pages.get(f"{moment}/{page}")
            ids += data.decode().split("\n") if data else []
            self._stores.pages.remove(f"{moment}/{page}")
        self._last.pop(moment, None)
        self._earliest = min(self._pages_of, default=None)
        self._changed = True
        return ids

    def flush(self) -> list[int]:
        """Write what changed; returns moments added since the last flush, for which an engine sets timers."""
        if self._changed:
            moments = [{"due": due, "pages": self._pages_of[due]} for due in sorted(self._pages_of)]
            self._stores.agenda.put(self._codec.encode("Agenda", {"moments": moments}))
            self._changed = False
        new, self._new = self._new, []
        return new
