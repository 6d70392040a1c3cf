"""Webhooks: the schedule of attempts, what an event changes, signatures as others verify them, which addresses."""

from __future__ import annotations

import base64
import itertools
import json
import os
import time

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ingest.batch_document import Document, Private
from ingest.batch_events import event_of
from ingest.batch_object import Batch
from ingest.webhooks import shown
from schemas import config, config_check, webhooks
from schemas.config import ConfigError
from schemas.webhooks import Webhook
from streams import deliveries, webhook_signing
from streams.webhook_signing import SecretError

NOW_MS = 1_700_000_000_000
DAY_MS = 86_400_000
CLIENT = openai.OpenAI(api_key="unused", base_url="http://127.0.0.1:9")
BATCH = Batch("batch_1", "/v1/chat/completions", "file-1", "24h", created_at=5, expires_at=9)


def secret(size=32):
    return f"whsec_{base64.b64encode(os.urandom(size)).decode()}"


def event(**more):
    written = {"tenant": "acme", "event_id": "evt_1", "type": "batch.completed", "batch_id": "batch_1"}
    return written | {"created_at": NOW_MS - 7, "repeat": False, "endpoint": ""} | more


def hook(name="default", **more):
    return Webhook("https://example.com/", "HOOK", name, **more)


def plan(known=None, hooks=(hook("a"), hook("b")), written_ms=NOW_MS, position=3, **more):
    return deliveries.plan(event(**more), position, known or {}, hooks, written_ms, NOW_MS)


def by_key(found):
    return {deliveries.key(d): d for d in found}


def failed(at_ms, status=500):
    return {"at": at_ms, "http_status": status, "error": "no", "took_ms": 40}


def good(at_ms):
    return {"at": at_ms, "http_status": 204, "error": "", "took_ms": 40}


# The schedule


@given(st.integers(1, 10_000), st.text(max_size=80))
def test_a_pause_triples_up_to_two_hours_and_depends_on_nothing_but_its_arguments(tries, seed):
    plain = min(5_000 * 3 ** min(tries - 1, 30), 7_200_000)
    pause = deliveries.delay_ms(tries, seed)
    assert 0.8 * plain - 1 <= pause <= 1.2 * plain
    assert pause == deliveries.delay_ms(tries, seed)


def test_pauses_of_many_are_spread_over_the_whole_of_the_jitter():
    pauses = [deliveries.delay_ms(1, str(i)) for i in range(1_000)]
    assert min(pauses) < 4_050 and max(pauses) > 5_950
    assert 4_900 < sum(pauses) / len(pauses) < 5_100


@given(st.text(min_size=1, max_size=20), st.integers(0, 10_000))
def test_a_dead_endpoint_is_tried_for_a_day_and_the_last_time_at_its_end(event_id, took_ms):
    delivery = plan(event_id=event_id)[0]
    times = []
    while delivery["status"] == "pending":
        times.append(delivery["due_at"])
        delivery = deliveries.after(delivery, failed(delivery["due_at"]) | {"took_ms": took_ms})
    assert delivery["status"] == "failed" and delivery["tries"] == len(times)
    assert times[0] == NOW_MS and times[-1] == NOW_MS + DAY_MS
    assert 18 <= len(times) <= 24
    assert all(b - a >= 4_000 for a, b in itertools.pairwise(times[:-1]))


def test_a_delivery_ends_with_the_first_success_and_keeps_its_last_attempts():
    delivery = plan()[0]
    for i in range(40):
        delivery = deliveries.after(delivery, failed(NOW_MS + i))
    delivery = deliveries.after(delivery, good(NOW_MS + 50))
    assert delivery["status"] == "delivered"
    assert len(delivery["attempts"]) == 30 and delivery["attempts"][-1] == good(NOW_MS + 50)
    assert delivery["tries"] == 40


# What an event changes


def test_an_event_goes_to_who_wants_it_and_is_closed_last():
    found = plan(hooks=(hook("a"), hook("b", events=("batch.failed",)), hook("c")))
    assert [d["endpoint"] for d in found] == ["a", "c", ""]
    assert [d["status"] for d in found] == ["pending", "pending", "planned"]
    assert {d["due_at"] for d in found} == {NOW_MS}


def test_an_event_that_nobody_wants_is_closed_so_that_no_later_endpoint_gets_it():
    first = plan(hooks=())
    assert [d["endpoint"] for d in first] == [""]
    assert [d["endpoint"] for d in plan(by_key(first))] == [""]


@pytest.mark.parametrize("written", [0, 1, 2, 3])
def test_whatever_was_written_before_a_kill_the_rest_follows(written):
    log = plan()[:written]
    first = deliveries.after(log[0], good(NOW_MS + 1)) if log else None
    log += [first] if first else []
    position = deliveries.next_position(by_key(log).values())
    assert position == (4 if written == 3 else 0)
    log += plan(by_key(log))
    ends = by_key(log)
    assert [ends["acme", name, "evt_1"]["status"] for name in ("a", "b")] == [
        "delivered" if first else "pending",
        "pending",
    ]
    assert deliveries.next_position(ends.values()) == 4


def test_a_repetition_begins_anew_with_another_day_and_keeps_what_was():
    log = plan()
    log.append(deliveries.after(log[0], good(NOW_MS)))
    again = plan(by_key(log), repeat=True, position=9)
    assert [(d["endpoint"], d["status"], len(d["attempts"])) for d in again] == [
        ("a", "pending", 1),
        ("b", "pending", 0),
        ("", "planned", 0),
    ]
    assert {d["position"] for d in again} == {9}
    assert [d["endpoint"] for d in plan(by_key(log), repeat=True, endpoint="b")] == ["b", ""]
    later = hook("later", events=("batch.failed",))
    assert [d["endpoint"] for d in plan(by_key(log), (later,), repeat=True, endpoint="later")] == ["later", ""]


def test_what_nobody_took_up_for_four_days_is_told_to_nobody():
    assert len(plan(written_ms=NOW_MS - 4 * DAY_MS)) == 3
    assert [d["endpoint"] for d in plan(written_ms=NOW_MS - 4 * DAY_MS - 1)] == [""]


def test_what_may_be_read_again_is_not_forgotten():
    ended = deliveries.after(plan()[0], good(NOW_MS))
    assert not deliveries.is_over(ended, NOW_MS + 8 * DAY_MS) and deliveries.is_over(ended, NOW_MS + 8 * DAY_MS + 1)
    assert not deliveries.is_over(plan()[0], NOW_MS + 9 * DAY_MS)


# What the batcher says


@pytest.mark.parametrize("status", ["completed", "failed", "expired", "cancelled"])
def test_the_event_of_a_batch_says_how_and_when_it_ended(status):
    document = Document(replace(BATCH, status=status, **{f"{status}_at": 77}), Private("acme", "k", 1, 2))
    found = event_of(document)
    assert found == event_of(document)
    assert (found["type"], found["created_at"], found["tenant"]) == (f"batch.{status}", 77_000, "acme")
    assert found["event_id"] == webhooks.event_id("batch_1", f"batch.{status}") and found["event_id"][:4] == "evt_"


def test_ids_of_events_differ_by_batch_and_type():
    ids = {webhooks.event_id(f"batch_{i}", kind) for i in range(50) for kind in webhooks.TYPES}
    assert len(ids) == 200


# Signatures


def test_the_example_of_standard_webhooks():
    """The vector of the specification's own libraries."""
    key = webhook_signing.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    signed = webhook_signing.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body, [key])
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("kind", webhooks.TYPES)
def test_the_sdk_verifies_by_either_of_two_secrets_and_by_no_other(kind):
    env = {"NEW": secret(), "OLD": secret(24)}
    delivery = plan(type=kind)[0]
    body, now_s = webhook_signing.body(delivery), int(time.time())
    headers = webhook_signing.headers("evt_1", now_s, body, webhook_signing.keys_of(("NEW", "OLD"), env))
    for text in env.values():
        found = CLIENT.webhooks.unwrap(body, headers, secret=text)
        assert type(found).__name__ == f"Batch{kind.split('.')[1].title()}WebhookEvent"
        assert (found.id, found.object, found.type) == ("evt_1", "event", kind)
        assert (found.data.id, found.created_at) == ("batch_1", (NOW_MS - 7) // 1000)
    wrong = [
        (body, headers, secret()),
        (body + b" ", headers, env["NEW"]),
        (body, headers | {"webhook-id": "evt_2"}, env["NEW"]),
        (body, headers | {"webhook-timestamp": str(now_s + 1)}, env["NEW"]),
    ]
    for payload, given_headers, text in wrong:
        with pytest.raises(openai.InvalidWebhookSignatureError):
            CLIENT.webhooks.unwrap(payload, given_headers, secret=text)


def test_every_attempt_sends_the_same_bytes():
    delivery = plan()[0]
    assert webhook_signing.body(delivery) == webhook_signing.body(deliveries.after(delivery, failed(NOW_MS)))
    assert json.loads(webhook_signing.body(delivery))["data"] == {"id": "batch_1"}


def test_a_secret_that_is_none_is_named_but_not_told():
    text = secret(16)
    for bad in (text, "plain", "whsec_!!!", secret(65)):
        with pytest.raises(SecretError, match="HOOK is not whsec_") as caught:
            webhook_signing.keys_of(("HOOK",), {"HOOK": bad})
        assert bad not in str(caught.value)
    with pytest.raises(SecretError, match="A and B is not in the environment"):
        webhook_signing.keys_of(("A", "B"), {"C": secret()})
    assert len(webhook_signing.keys_of(("A", "B"), {"B": secret()})) == 1


# The configuration


def parse(*hooks):
    return config_check.parse({"tenants": {"acme": {"webhooks": list(hooks)}}})


def test_what_is_published_holds_names_of_secrets_and_policies_nothing_of_it():
    c = parse({"url": "https://example.com/h", "secret_env": ["NEW", "OLD"], "events": ["batch.failed"], "name": "n"})
    document = config.document(c)
    found = config.decode_config(config.encode(document)).settings["acme"].webhooks
    assert found == (Webhook("https://example.com/h", ("NEW", "OLD"), "n", ("batch.failed",)),)
    assert "webhooks" not in config.encode(config.policy_of(document, "acme"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "http://example.com/"}, r"webhooks\[0\].url: must be https"),
        ({"url": "ftp://example.com/", "private": True}, "must be https, or http"),
        ({"url": "https://user:word@example.com/"}, "neither credentials"),
        ({"url": "https:///path"}, "absolute URL"),
        ({"url": "https://example.com:99999/"}, "is no URL"),
        ({"url": "https://exa mple.com/"}, "absolute URL"),
        ({"url": "https://10.0.0.1/"}, "10.0.0.1 is not public: `private: true` allows it"),
        ({"url": "https://[::1]/"}, "not public"),
        ({"url": "http://169.254.169.254/", "private": True}, "no address to call"),
        ({"secret_env": "whsec_abc="}, "names one or two environment variables"),
        ({"secret_env": ["A", "B", "C"]}, "names one or two"),
        ({"secret_env": []}, "names one or two"),
        ({"events": []}, "at least one event"),
        ({"events": ["batch.begun"]}, "batch.begun"),
        ({"name": "a/b"}, "letters, digits"),
        ({"secret": "whsec_x"}, "unknown field `secret`"),
    ],
)
def test_an_endpoint_that_cannot_be_says_what_is_wrong(changes, words):
    with pytest.raises(ConfigError, match=words):
        parse({"url": "https://example.com/", "secret_env": "HOOK"} | changes)


def test_endpoints_have_names_of_their_own_and_a_limit():
    one = {"url": "https://example.com/", "secret_env": "HOOK"}
    with pytest.raises(ConfigError, match="called 'default' already"):
        parse(one, one)
    with pytest.raises(ConfigError, match="at most 8"):
        parse(*({**one, "name": f"n{i}"} for i in range(9)))


@pytest.mark.parametrize(
    ("address", "public", "own"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700::1111", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("100.64.0.1", False, True),
        ("::1", False, True),
        ("fd00::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("169.254.169.254", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("fd00:ec2::254", False, False),
        ("fe80::1%eth0", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
    ],
)
def test_which_addresses_are_called(address, public, own):
    assert (webhooks.refusal(address, False) is None, webhooks.refusal(address, True) is None) == (public, own)


# What is shown


def test_a_delivery_is_shown_with_its_attempts_and_without_where_it_goes():
    delivery = deliveries.after(plan()[0], failed(NOW_MS, 0))
    found = shown(delivery)
    assert (found.id, found.status, found.last_error) == ("evt_1/a", "pending", "no")
    assert found.next_attempt_at is not None and found.next_attempt_at * 1000 >= delivery["due_at"]
    assert (found.attempts[0].status_code, found.attempts[0].at) == (None, NOW_MS // 1000)
    ended = shown(deliveries.after(delivery, good(NOW_MS + 9)))
    assert (ended.status, ended.last_error, ended.next_attempt_at) == ("delivered", None, None)
    assert ended.attempts[1].error is None and ended.attempts[1].status_code == 204
