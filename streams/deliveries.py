"""Deliveries of events to webhooks: which there are, when each is tried again, and when it has ended. Pure.

A Delivery record says all there is to know of one; a change makes a new record of the same identity. So the newest
records of the topic `deliveries` are the state: whoever reads them again goes on where another was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from schemas.records import Attempt, Delivery, Event
from schemas.webhooks import Webhook

DAY_MS: Final = 86_400_000
# 5 s, 15 s, 45 s, ... grows to two hours within an hour and a half: some twenty attempts in a day.
FIRST_MS: Final = 5_000
GROWTH: Final = 3
LONGEST_MS: Final = 7_200_000
# So that those who failed together do not come back together.
JITTER_PERCENT: Final = 20
# An event that nobody took up for so long (this application was down) is told to nobody any more. Far below what
# `deliveries` keeps: an event that was planned is never planned again because its record is gone.
FORGOTTEN_MS: Final = 4 * DAY_MS
KEPT_ATTEMPTS: Final = 30
# What a tenant is shown: deliveries of the last eight days, the newest ten thousand.
SHOWN_MS: Final = 8 * DAY_MS
MOST_SHOWN: Final = 10_000
GONE: Final = 410


class Key(NamedTuple):
    """Identity of a delivery."""

    tenant: str
    endpoint: str
    event_id: str


class Endpoint(NamedTuple):
    """Identity of an endpoint."""

    tenant: str
    name: str


def key(delivery: Delivery) -> Key:
    """Identity of a delivery. That of the record that closes the planning of an event has no endpoint."""
    return Key(delivery["tenant"], delivery["endpoint"], delivery["event_id"])


def log_key(delivery: Delivery) -> bytes:
    """Key of the record, by which the topic is compacted."""
    return "/".join(key(delivery)).encode()


def list_name(tenant: str) -> str:
    """Redis sorted set of a tenant's deliveries, `<event id>/<endpoint>` by begun_at."""
    return f"webhooks:{tenant}"


def event_name(tenant: str, event_id: str) -> str:
    """Redis hash of the deliveries of an event, by endpoint, as JSON."""
    return f"webhooks:{tenant}:{event_id}"


def delay_ms(tries: int, seed: str) -> int:
    """Pause after the `tries`-th failure (from 1), ms. `seed` alone decides over the jitter."""
    plain = LONGEST_MS
    if tries <= 20:  # far beyond where it has reached its longest
        plain = min(FIRST_MS * GROWTH ** (tries - 1), LONGEST_MS)
    digest = hashlib.sha256(f"{seed}/{tries}".encode()).digest()
    chance = int.from_bytes(digest[:4], "big") / 2**32
    return int(plain * (100 - JITTER_PERCENT + 2 * JITTER_PERCENT * chance) / 100)


def deadline_ms(delivery: Delivery) -> int:
    """When its last attempt is due."""
    return delivery["begun_at"] + DAY_MS


def after(delivery: Delivery, attempt: Attempt) -> Delivery:
    """The delivery after an attempt. One that failed is pending until its day is over; the last try is at its end.

    An attempt that was under way when it was begun anew decides nothing: who asked for another call gets one.
    """
    attempts = [*delivery["attempts"], attempt][-KEPT_ATTEMPTS:]
    if attempt["at"] < delivery["begun_at"]:
        return {**delivery, "attempts": attempts}
    if not attempt["error"]:
        return {**delivery, "attempts": attempts, "status": "delivered"}
    tries, ended_ms = delivery["tries"] + 1, attempt["at"] + attempt["took_ms"]
    if attempt["at"] >= deadline_ms(delivery):
        return {**delivery, "attempts": attempts, "tries": tries, "status": "failed"}
    due_ms = min(ended_ms + delay_ms(tries, "/".join(key(delivery))), deadline_ms(delivery))
    return {**delivery, "attempts": attempts, "tries": tries, "status": "pending", "due_at": due_ms}


def given_up(delivery: Delivery) -> Delivery:
    """A delivery whose day went by while nobody was to be called."""
    return {**delivery, "status": "failed"}


def wanted(event: Event, webhooks: Iterable[Webhook]) -> list[str]:
    """Names of the endpoints that an event goes to."""
    if event["endpoint"]:
        return [w.name for w in webhooks if w.name == event["endpoint"]]
    return [w.name for w in webhooks if event["type"] in w.events]


def plan(
    event: Event,
    position: int,
    known: Mapping[Key, Delivery],
    webhooks: Iterable[Webhook],
    written_ms: int,
    now_ms: int,
) -> list[Delivery]:
    """What an event changes, in the order in which it has to be written: the record that closes its planning is last.

    `position` is its offset, `written_ms` when the log got it. An event that is known changes nothing more, whoever
    wrote it a second time, unless it is to be repeated: then its deliveries begin anew.
    """
    base: Delivery = {
        "tenant": event["tenant"],
        "event_id": event["event_id"],
        "endpoint": "",
        "type": event["type"],
        "batch_id": event["batch_id"],
        "created_at": event["created_at"],
        "status": "planned",
        "attempts": [],
        "tries": 0,
        "begun_at": now_ms,
        "due_at": now_ms,
        "position": position,
    }
    found: list[Delivery] = []
    old = now_ms - written_ms > FORGOTTEN_MS
    closed = key(base) in known
    if not old and (event["repeat"] or not closed):
        for name in wanted(event, webhooks):
            before = known.get(Key(event["tenant"], name, event["event_id"]))
            if before is not None and not event["repeat"]:
                continue  # it was planned before a kill
            attempts = before["attempts"] if before is not None else []
            found.append({**base, "endpoint": name, "status": "pending", "attempts": attempts})
    return [*found, base]


def next_position(records: Iterable[Delivery]) -> int:
    """The first offset of `events` that was not planned, given all deliveries of the same partition."""
    return max((r["position"] + 1 for r in records if not r["endpoint"]), default=0)


def is_over(delivery: Delivery, now_ms: int) -> bool:
    """Whether it may be forgotten: it has ended, and its event could not be read again."""
    return delivery["status"] != "pending" and now_ms - delivery["begun_at"] > 2 * FORGOTTEN_MS
