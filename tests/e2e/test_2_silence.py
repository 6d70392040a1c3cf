"""A pool that begins nothing any more: others answer, soon at once, and it is used again when it can."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import openai

from streams.circuit import IN_A_ROW, SILENT
from tests.e2e.stack import Stack, eventually
from tests.e2e.tail import Tail

MODEL = "stuck"
# What a call waits for a silent pool: its patience of two seconds, and two of grace.
WAIT_S = 4.0
HELD = 200


def ask(client: openai.OpenAI) -> tuple[str, float]:
    """(request id, seconds until the answer) of a call."""
    text, began = uuid.uuid4().hex, time.monotonic()
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    assert answer.choices[0].message.content == text
    return answer.id.removeprefix("chatcmpl-"), time.monotonic() - began


def test_a_pool_that_begins_nothing_is_left_alone_until_it_does(stack: Stack):
    client = stack.client("stuck", timeout=60, max_retries=0)
    tail = Tail(stack)
    said = {"role": "user", "content": "word " * HELD}
    holder = client.chat.completions.create(model=MODEL, messages=[said], stream=True)
    assert next(iter(holder)).choices[0].delta.content, "it has the only slot"
    with ThreadPoolExecutor(IN_A_ROW) as threads:
        asked = list(threads.map(lambda _: ask(client), range(IN_A_ROW)))
    assert all(took >= WAIT_S for _, took in asked)
    found = tail.of_tenant("stuck")
    silent = {c["request_id"] for c, _ in found.of("Completion") if SILENT.encode() in c["body"]}
    assert silent == {request_id for request_id, _ in asked}

    def told(is_open: bool) -> bool:
        notices = [c for c, _ in tail.of_tenant("stuck").of("Circuit") if c["pool"] == "stuck"]
        return bool(notices) and notices[-1]["open"] is is_open

    eventually(lambda: told(True), 20, "the circuit to open")
    assert ask(client)[1] < WAIT_S / 2
    holder.close()
    eventually(lambda: told(False), 30, "the pool to be tried")
    last, _ = ask(client)
    rows = eventually(
        lambda: (r := {u["request_id"]: u["pool"] for u in tail.of_tenant("stuck").usage}) and last in r and r,
        30,
        "the row of the last call",
    )
    assert rows[last] == "stuck" and {rows[request_id] for request_id, _ in asked} == {"echo"}
    tail.close()
