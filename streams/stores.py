"""What an engine keeps for one tenant: values and tables of bytes. It is told what to keep, and decides nothing."""

from __future__ import annotations

from typing import Protocol


class Cell(Protocol):
    """One value."""

    def get(self) -> bytes | None:
        """The bytes, or None."""

    def put(self, value: bytes) -> None:
        """Replace them."""


class Table(Protocol):
    """Values by key."""

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""

    def remove(self, key: str) -> None:
        """Forget the key; harmless if it is not there."""


class Stores(Protocol):
    """What an engine keeps for one tenant."""

    @property
    def policy(self) -> Cell:
        """The JSON of the Policy record."""

    @property
    def ledger(self) -> Cell:
        """Ledger."""

    @property
    def agenda(self) -> Cell:
        """Agenda."""

    @property
    def requests(self) -> Table:
        """Open or Done by request id; the first byte tells which."""

    @property
    def cached(self) -> Table:
        """Cached by cache key; and by place, the keys of answers in the order they were kept."""

    @property
    def deferred(self) -> Table:
        """Request ids by queue and place."""

    @property
    def pages(self) -> Table:
        """Request ids of the agenda, by moment and page."""
