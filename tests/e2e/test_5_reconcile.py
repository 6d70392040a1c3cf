"""The books of the day on which everything above happened: kills, stops, quotas, batches, fallbacks, an erasure."""

from __future__ import annotations

import re
import time
import uuid
from datetime import UTC, date, datetime

from confluent_kafka import Producer

from schemas import kafka, topics
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually


def reconciled(stack: Stack, day: date) -> tuple[int, str]:
    """Exit status of the command and what it printed."""
    done = stack.command("exec", "--", "python", "-m", "streams.reconcile", "--day", day.isoformat())
    return done.returncode, done.stdout + done.stderr


def test_nothing_differs_and_what_is_planted_is_found(stack: Stack) -> None:
    client = stack.client("probe", max_retries=0)
    client.chat.completions.create(model="echo", messages=[{"role": "user", "content": "two words"}])
    days = {datetime.fromtimestamp(row["completed_at"] / 1000, UTC).date() for row in records(stack, "usage")}
    said: dict[date, str] = {}

    def equal(day: date) -> bool:
        status, said[day] = reconciled(stack, day)
        assert status < 2, said[day]
        return status == 0

    for day in sorted(days):
        # The last rows of usage come with the next checkpoint, and to Parquet with the one after that.
        try:
            eventually(lambda d=day: equal(d), 240, "the books to be equal")
        except AssertionError:
            raise AssertionError(said[day]) from None
        print(said[day])
        assert len(re.findall(r"^ +0 differences", said[day], re.MULTILINE)) == 5
    tokens = sum(int(n.replace(",", "")) for text in said.values() for n in re.findall(r"spent ([\d,]+) tokens", text))
    assert tokens > 0, "no engine did anything: this shows nothing"

    planted = {
        "request_id": "planted", "tenant": "probe", "attempt": f"planted-{uuid.uuid4().hex}", "pool": "echo",
        "worker": "w", "reason": "late", "input_tokens": 40, "output_tokens": 2, "at": time.time_ns() // 1_000_000,
    }  # fmt: skip
    producer = Producer(kafka.producer(stack.kafka, "planter"))
    producer.produce(topics.WASTE, stack.codec().encode("Waste", planted), b"probe")
    assert producer.flush(20) == 0
    status, text = reconciled(stack, datetime.fromtimestamp(planted["at"] / 1000, UTC).date())
    assert status == 1 and f"attempt {planted['attempt']}: a row of waste has 42 tokens, no engine spent them" in text
