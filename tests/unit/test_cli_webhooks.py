"""millrace webhooks against a double of the HTTP API. The real one: tests/integration/test_live_webhooks.py."""

from __future__ import annotations

import json

import httpx
import pytest
from typer.testing import CliRunner

from ingest.cli.__main__ import app
from ingest.cli.client import Client
from ingest.cli.session import Address, Session
from tests.unit.cli_double import KEY


class Api(httpx.BaseTransport):
    """Two pages of deliveries, and a redelivery."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        params = dict(request.url.params)
        self.asked.append((request.method, request.url.path, params, request.read()))
        if request.method == "POST":
            told = {"object": "webhook.redelivery", "event_id": "evt_1", "endpoints": ["a", "b"], "status": "pending"}
            return httpx.Response(202, json=told)
        first = 3 if "after" in params else 1
        data = [delivery(n) for n in (first, first + 1)]
        return httpx.Response(200, json={"data": data, "has_more": first == 1, "last_id": data[-1]["id"]})


def delivery(number: int) -> dict:
    shown = {"id": f"evt_{number}/main", "event_id": f"evt_{number}", "endpoint": "main", "type": "batch.failed"}
    return shown | {"batch_id": f"batch_{number}", "status": "pending", "next_attempt_at": 1, "attempts": [{}, {}],
                    "last_error": "it answered 500"}  # fmt: skip


@pytest.fixture
def api(monkeypatch) -> Api:
    fake = Api()
    monkeypatch.setattr(Session, "client", lambda self: Client(Address("http://double/v1", KEY), fake))
    return fake


def run(*line: str):
    return CliRunner().invoke(app, ["webhooks", *line])


def test_deliveries_are_listed_over_pages(api):
    done = run("ls", "--json", "--status", "pending", "--batch", "batch_x", "--tenant", "acme")
    assert done.exit_code == 0 and len(done.stdout.splitlines()) == 4
    assert [json.loads(row)["event_id"] for row in done.stdout.splitlines()] == ["evt_1", "evt_2", "evt_3", "evt_4"]
    only = {"status": "pending", "batch_id": "batch_x", "tenant": "acme", "limit": "100"}
    assert [asked[2] for asked in api.asked] == [only, only | {"after": "evt_2/main"}]
    assert len(run("ls", "--json", "-n", "3").stdout.splitlines()) == 3
    words = run("ls", "-n", "1").stdout
    assert all(word in words for word in ("evt_1", "batch.failed", "main", "pending", "500"))


def test_an_event_is_told_again(api):
    done = run("redeliver", "evt_1")
    assert (done.exit_code, done.stdout) == (0, "evt_1 goes to a, b\n")
    assert json.loads(run("redeliver", "evt_1", "--endpoint", "a", "--tenant", "acme", "--json").stdout)["endpoints"]
    path = "/v1/webhooks/deliveries/evt_1/redeliver"
    assert api.asked == [("POST", path, {}, b"{}"), ("POST", path, {"tenant": "acme"}, b'{"endpoint":"a"}')]
