"""Asks admission about a tenant's account: it alone knows what is spent and held at this moment."""

from __future__ import annotations

import asyncio
import uuid
from typing import Final

import msgspec

from ingest.journal import Journal, JournalError
from ingest.waiting import Call, Waiting
from schemas import topics

PATIENCE_S: Final = 3.0


class Account(msgspec.Struct, frozen=True):
    """A prepaid balance in micro-units: what is not spent, and what of that is held for requests under way."""

    left_micros: int
    held_micros: int


class Enquiries:
    """Questions of one gateway, answered on its topic of replies."""

    def __init__(self, journal: Journal, reply_to: str, waiting: Waiting) -> None:
        self._journal = journal
        self._reply_to = reply_to
        self._waiting = waiting

    async def account(self, tenant: str) -> Account | None:
        """The account of a tenant; None where admission does not answer in time."""
        if not self._waiting.has_room():
            return None
        call = Call(tenant, str(uuid.uuid4()), stream=False)
        self._waiting.enter(call)
        try:
            record = {"tenant": tenant, "request_id": call.key[1], "reply_to": self._reply_to}
            self._journal.post(topics.JOURNAL, tenant, "Enquiry", record, call.refused)
            async with asyncio.timeout(PATIENCE_S):
                await call.ready()
        except (TimeoutError, JournalError):
            return None
        finally:
            self._waiting.leave(call)
        return msgspec.json.decode(call.end["body"], type=Account) if isinstance(call.end, dict) else None
