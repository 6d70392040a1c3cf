"""Every topic, declared once: partitions, retention, timestamps, clean-up, and the schema of its values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LANES: Final = ("interactive", "standard", "batch")
DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

JOURNAL: Final = "journal"
CONFIG: Final = "config"
CONTROL: Final = "control"
RESPONSES: Final = "responses"
# What the name of a topic of one tenant's answers begins with.
ANSWERS: Final = "responses."
USAGE: Final = "usage"
AUDIT: Final = "audit"
WASTE: Final = "waste"
BATCH_RESULTS: Final = "batch_results"
BATCH_COMMANDS: Final = "batch_commands"
DEAD_LETTERS: Final = "dead_letters"
REPLAYS: Final = "replays"
CREDITS: Final = "credits"
ERASURES: Final = "erasures"
SHADOWS: Final = "shadows"
CIRCUITS: Final = "circuits"
EVENTS: Final = "events"
DELIVERIES: Final = "deliveries"
BATCHES: Final = "batches"
LIMITS: Final = "limits"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's declaration. `schemas` are the names of the records it may carry; retention in ms, -1 for ever."""

    name: str
    partitions: int
    schemas: tuple[str, ...]
    retention_ms: int
    cleanup: str = "delete"
    timestamps: str = "LogAppendTime"

    def settings(self) -> dict[str, str]:
        """Topic configuration, as Kafka names it."""
        return {
            "retention.ms": str(self.retention_ms),
            "cleanup.policy": self.cleanup,
            "message.timestamp.type": self.timestamps,
            "max.message.bytes": str(MAX_RECORD_BYTES),
        }


# One record holds at most one request or answer; 8 MiB is far above any prompt a model here accepts.
MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
JOURNAL_RECORDS: Final = (
    "Request", "Started", "Completion", "Cancellation", "Policy", "Credit", "Erasure", "Enquiry", "Circuit",
    "Tick",
)  # fmt: skip

FIXED: Final = (
    # Journal outlives the longest batch window (7 days), so that a replay can always decide again.
    Topic(JOURNAL, 4, JOURNAL_RECORDS, 8 * DAY_MS),
    Topic(CONFIG, 1, ("Config",), -1, cleanup="compact"),
    Topic(CONTROL, 1, ("Control",), HOUR_MS),
    Topic(RESPONSES, 4, ("Response",), 7 * DAY_MS),
    Topic(USAGE, 4, ("Usage",), 30 * DAY_MS),
    Topic(AUDIT, 4, ("Audit",), 30 * DAY_MS),
    Topic(WASTE, 4, ("Waste",), 30 * DAY_MS),
    Topic(BATCH_RESULTS, 4, ("BatchResult",), 8 * DAY_MS),
    Topic(BATCH_COMMANDS, 1, ("BatchCommand",), 8 * DAY_MS),
    Topic(DEAD_LETTERS, 1, ("DeadLetter",), 30 * DAY_MS),
    Topic(REPLAYS, 1, ("Replay",), 30 * DAY_MS),
    Topic(CREDITS, 1, ("Credit",), -1),
    # That something was erased and when, for ever; of whom, it does not say.
    Topic(ERASURES, 1, ("Erasure",), -1),
    Topic(SHADOWS, 4, ("Shadow",), 7 * DAY_MS),
    # Rows of the lake from outside admission: written at least once, the same row under the same key.
    Topic(BATCHES, 1, ("Batch",), 30 * DAY_MS),
    Topic(LIMITS, 1, ("Limit",), -1),
    # The latest word on each pool, for those who do not read the journal.
    Topic(CIRCUITS, 1, ("Circuit",), -1, cleanup="compact"),
    # Both keyed by tenant, so that who owns a partition of the first owns that of the second. An event that is four
    # days old is told to nobody (streams/deliveries.py): what became of each is known for longer than that.
    Topic(EVENTS, 4, ("Event",), 8 * DAY_MS),
    Topic(DELIVERIES, 4, ("Delivery",), 9 * DAY_MS, cleanup="compact,delete"),
)


def work(pool: str, lane: str) -> Topic:
    """Where admitted requests of a pool and lane wait for a worker."""
    return Topic(f"work.{pool}.{lane}", 4, ("Work",), 8 * DAY_MS)


def replies(gateway: str) -> Topic:
    """Where a gateway's waiting callers are answered: one partition, so chunks stay before their reply."""
    return Topic(f"replies.{gateway}", 1, ("Chunk", "Reply"), HOUR_MS)


def intake(tenant: str) -> Topic:
    """Where a tenant's own producers write."""
    return Topic(f"intake.{tenant}", 2, ("Intake",), 7 * DAY_MS)


def undelivered(tenant: str) -> Topic:
    """Answers that a sink of Kafka Connect could not deliver, as they were; headers say why."""
    return Topic(f"undelivered.{tenant}", 1, ("Response",), 7 * DAY_MS)


def answers(tenant: str) -> Topic:
    """Where a tenant's own producers are answered, if its configuration says `answers: topic`."""
    return Topic(f"{ANSWERS}{tenant}", 2, ("Response",), 7 * DAY_MS)


def subjects() -> dict[str, str]:
    """Registry subject by schema name: `<topic>-value` where one topic carries it alone, else `millrace.<Name>`."""
    shared = [*JOURNAL_RECORDS, "Work", "Chunk", "Reply", "Intake"]
    alone = {t.schemas[0]: f"{t.name}-value" for t in FIXED if len(t.schemas) == 1 and t.schemas[0] not in shared}
    return {**{name: f"millrace.{name}" for name in shared}, **alone}
