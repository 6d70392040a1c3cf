"""Two workers with the real language model: prompts that begin alike are read again less where they stay together.

Admission is the memory engine, which places work as the Flink job does. What is compared with differs in
`prompt_cache_key` only: a key of its own for each request leaves nothing in common.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from parts import Parts
from worker_world import Desk, worker

from schemas import config, config_check
from schemas.wire import Codec
from streams.memory import MemoryEngine
from tests.unit.world import request
from workers.clock import now_ms

# An engine keeps as many beginnings as it has slots, which is half of those that are used.
POOLS = {"local": {"engine": "llama", "model": "smollm2-135m", "concurrency": 4}}
MODELS = {"smollm2-135m": {"route": ["local"], "max_input_tokens": 1024, "max_output_tokens": 16}}
# Their instructions fall two into each partition; hashes of few are seldom so even.
TOPICS = ["parcels", "invoices", "gardens", "weather", "recipes", "music", "tickets", "taxes"]
AT_ONCE = 2
ASKED = 96


def instructions(part: str, topic: str) -> str:
    """Some 300 tokens, the same in every run of this test: so are the partitions that they fall into."""
    rule = f"You answer questions about {topic}, briefly and kindly, and never about {topic[::-1]}."
    return " ".join([f"Part {part}.", *[rule] * 12])


class Admission:
    """Decides in this process, and passes work on with the keys it was given."""

    def __init__(self, desk: Desk, codec: Codec) -> None:
        self._desk = desk
        self._engine = MemoryEngine(codec)
        parsed = config_check.parse({"pools": POOLS, "models": MODELS, "tenants": {"acme": {}}})
        document = config.encode(config.policy_of(config.document(parsed), "acme"))
        self._engine.step("Policy", {"tenant": "acme", "version": "1", "document": document}, now_ms())

    def ask(self, body: dict[str, Any]) -> str:
        now = now_ms()
        made = {"request_id": uuid.uuid4().hex, "received_at": now, "deadline": now + 120_000, "reply_to": ""}
        r = request(model="smollm2-135m", body=body) | made
        self._pass_on(self._engine.step("Request", r, now))
        return str(r["request_id"])

    def completed(self, request_id: str) -> dict[str, Any]:
        completion = self._desk.completions[request_id][0]
        self._pass_on(self._engine.step("Completion", completion, now_ms()))
        return completion

    def _pass_on(self, emits: Any) -> None:
        for emit in emits:
            if emit.topic.startswith("work."):
                self._desk.put(emit.topic, emit.key, emit.schema, emit.record)


@pytest.fixture
def desk(parts: Parts, kafka: str, codec: Codec) -> Iterator[Desk]:
    held = Desk(kafka, codec)
    held.configure(POOLS, MODELS)
    with worker(parts, "worker-1"), worker(parts, "worker-2"):
        seen: set[str] = set()
        while seen != {"worker-1", "worker-2"}:  # both have partitions and have loaded the model
            asked = [held.ask(f"Hi {n}", pool="local", model="x", body={"max_tokens": 1}) for n in range(8)]
            held.done(*asked, timeout_s=90)
            seen = {held.completions[i][0]["worker"] for i in asked}
        yield held


def cached_share(desk: Desk, admission: Admission, chance: random.Random, *, together: bool) -> tuple[float, set[str]]:
    """(cached prompt tokens of all prompt tokens, workers) of ASKED calls, AT_ONCE at any time."""
    systems = [instructions("two" if together else "one", topic) for topic in TOPICS]
    bodies = [
        {
            "messages": [
                {"role": "system", "content": chance.choice(systems)},
                {"role": "user", "content": f"No. {n}?"},
            ],
            "max_tokens": 4,
            **({} if together else {"prompt_cache_key": f"own-{n}"}),
        }
        for n in range(ASKED)
    ]
    waiting: set[str] = set()
    done: list[dict[str, Any]] = []
    while bodies or waiting:
        while bodies and len(waiting) < AT_ONCE:
            waiting.add(admission.ask(bodies.pop()))
        desk.read(lambda: bool(waiting & desk.completions.keys()), "a completion", 60)
        for request_id in waiting & desk.completions.keys():
            done.append(admission.completed(request_id))
            waiting.discard(request_id)
    assert {c["outcome"] for c in done} == {"ok"}
    return sum(c["cached_tokens"] for c in done) / sum(c["input_tokens"] for c in done), {c["worker"] for c in done}


def test_more_of_the_prompts_is_cached_and_both_workers_work(desk: Desk, codec: Codec) -> None:
    admission, chance = Admission(desk, codec), random.Random(7)
    spread, _ = cached_share(desk, admission, chance, together=False)
    together, workers = cached_share(desk, admission, chance, together=True)
    print(f"cached share: {spread:.3f} spread, {together:.3f} together")
    assert together > 1.1 * spread
    assert workers == {"worker-1", "worker-2"}
