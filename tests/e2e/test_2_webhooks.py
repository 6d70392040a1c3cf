"""Webhooks of the whole stack: how batches end, told to a receiver that fails for a while."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from schemas import webhooks
from tests.e2e import configuration, faults
from tests.e2e.batches import finished, submit
from tests.e2e.configuration import HOOK_ENV, tenant
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually
from tests.e2e.upstream import Upstream
from tests.webhook_receiver import Receiver


@pytest.fixture
def receiver(stack: Stack, mortal: Upstream, telltale: Upstream, tmp_path) -> Iterator[Receiver]:
    """Told of the batches of `notified`, at /hook."""
    made = Receiver(stack.hook_secret)
    document = configuration.document(mortal.url, telltale.url, [fault.name for fault in faults.ALL])
    hook = {"url": made.url("/hook"), "secret_env": HOOK_ENV, "name": "main", "private": True}
    # One request a day of this model: of a batch all lines but one wait, until it expires.
    limits = [{"on": "requests", "per": "day", "max": 1, "model": "control"}]
    notified = {"notified": tenant("notified", webhooks=[hook], limits=limits)}
    stack.apply(configuration.write(tmp_path / "with", document | {"tenants": document["tenants"] | notified}))
    log = stack.home / "logs" / "live.log"
    eventually(lambda: ": 1 endpoints" in log.read_text(), 10, "the endpoint at live")
    eventually(lambda: ask(stack, "/models").status_code == 200, 10, "the key at the gateway")
    yield made
    stack.apply(configuration.write(tmp_path / "without", document))
    made.close()


def ask(stack: Stack, path: str, **params: Any) -> httpx.Response:
    headers = {"authorization": "Bearer mr-notified"}
    return httpx.get(f"{stack.url}{path}", headers=headers, params=params, timeout=10)


def deliveries(stack: Stack, **params: Any) -> list[dict[str, Any]]:
    answer = ask(stack, "/webhooks/deliveries", limit=100, **params)
    return answer.json()["data"] if answer.status_code == 200 else []


def test_every_end_is_told_under_one_id_although_the_receiver_fails_and_live_and_redis_die(
    stack: Stack, receiver: Receiver
):
    client = stack.client("notified")
    receiver.answers["/hook"] = 503
    slow = ["word " * 30 + str(i) for i in range(400)]
    bad = client.files.create(file=("bad.jsonl", b"not json\n"), purpose="batch")
    batches = {
        "completed": submit(client, [f"line {i}" for i in range(5)]),
        "failed": client.batches.create(input_file_id=bad.id, endpoint="/v1/chat/completions", completion_window="24h"),
        "expired": submit(client, [f"line {i} waits" for i in range(5)], model="control", window="4s"),
        "cancelled": submit(client, slow, model="slow"),
    }
    eventually(
        lambda: client.batches.retrieve(batches["cancelled"].id).status == "in_progress", 60, "lines on their way"
    )
    client.batches.cancel(batches["cancelled"].id)
    ends = {status: finished(client, batch, 120) for status, batch in batches.items()}
    assert {status: batch.status for status, batch in ends.items()} == {status: status for status in ends}
    expected = {webhooks.event_id(batch.id, f"batch.{status}"): (status, batch) for status, batch in ends.items()}
    eventually(lambda: set(receiver.ids("/hook")) == set(expected), 60, "a first call for each")

    eventually(lambda: len(deliveries(stack, status="pending")) == 4, 30, "four pending deliveries")
    stack.kill("live")
    eventually(lambda: "webhooks of partition" in tail(stack), 60, "live, having read its log again")
    redis.Redis(port=stack.ports["REDIS"]).flushall()
    assert len(receiver.ids("/hook", 503)) == len(receiver.got) >= 4, "nothing was taken yet"
    receiver.answers["/hook"] = 204
    eventually(lambda: set(receiver.ids("/hook", 204)) == set(expected), 300, "each event")
    eventually(lambda: len(deliveries(stack, status="delivered")) == 4, 60, "the log")

    for got in receiver.got:
        status, batch = expected[got.event_id]
        assert got.event is not None and got.event.id == got.event_id, "the SDK did not verify it"
        assert (got.event.type, got.event.data.id) == (f"batch.{status}", batch.id)
        assert got.event.created_at == getattr(batch, f"{status}_at")
    for delivery in deliveries(stack):
        assert delivery["batch_id"] == expected[delivery["event_id"]][1].id
        assert delivery["attempts"][0]["error"] == "it answered 503" and delivery["attempts"][-1]["status_code"] == 204
    told = sorted(r["event_id"] for r in records(stack, "events", {"notified"}))
    assert set(told) == set(expected)
    secret = stack.hook_secret.removeprefix("whsec_")
    logs = "".join(path.read_text(errors="replace") for path in (stack.home / "logs").glob("*.log"))
    assert secret not in logs + "".join(map(str, records(stack, "config")))


def tail(stack: Stack) -> str:
    """What the process of live that runs now has said."""
    text = (stack.home / "logs" / "live.log").read_text()
    return text.rpartition("counting as generation")[2]
