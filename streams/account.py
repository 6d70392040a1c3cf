"""What a tenant is told of its account, without anything of it being changed. Pure."""

from __future__ import annotations

import orjson

from schemas.records import Enquiry
from streams import ledger
from streams.emission import Emit, reply_record
from streams.state import Tenant
from streams.verdict import Verdict


def told(tenant: Tenant, enquiry: Enquiry) -> Emit:
    """The reply to an enquiry: of a prepaid balance what is not spent (`left_micros`), and what of that is held."""
    purse = tenant.accounts.get(ledger.PREPAID)
    spent, held = (purse.spent, purse.held) if purse is not None else (0, 0)
    body = orjson.dumps({"left_micros": tenant.credited_micros - spent, "held_micros": held})
    reply = reply_record(tenant.name, enquiry["request_id"], Verdict("completed", 200, body))
    return Emit(enquiry["reply_to"], enquiry["request_id"], "Reply", reply)
