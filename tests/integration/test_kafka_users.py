"""Producers' own users on a real broker: what each may do, and that it may do nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AdminClient,
    NewTopic,
    ScramMechanism,
    UserScramCredentialDeletion,
)
from parts import HOST, Parts, await_
from processes import apply

from ingest.kafka_users import acls
from schemas import kafka as settings
from schemas.wire import Codec

TENANTS = """
tenants:
  acme:
    kafka_users: [{name: sensors, password: correct-horse}, {name: old, password: correct-horse}]
    answers: topic
  globex: {kafka_users: [{name: shop, password_env: SHOP_PASSWORD}]}
"""
SHOP = {"SHOP_PASSWORD": "battery-staple"}
DENIED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
          KafkaError.CLUSTER_AUTHORIZATION_FAILED, KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED}  # fmt: skip


@pytest.fixture(scope="module")
def applied(parts: Parts, kafka: str, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("config")
    (folder / "all.yaml").write_text(TENANTS)
    done = apply(parts, folder, SHOP)
    assert (done.returncode, done.stderr) == (0, "")
    assert "acme.sensors" in done.stdout and "correct-horse" not in done.stdout
    yield folder


@pytest.fixture
def door(parts: Parts, applied: Path) -> str:
    return f"{HOST}:{parts.settings.ports()['KAFKA users']}"


def login(door: str, user: str, password: str) -> dict[str, Any]:
    return {
        "bootstrap.servers": door, "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user, "sasl.password": password, "log_level": 0,
    }  # fmt: skip


def sensors(door: str) -> dict[str, Any]:
    return login(door, "acme.sensors", "correct-horse")


def written(client: dict[str, Any], topic: str, timeout_s: float = 15) -> int | None:
    """None if a record reached the topic, else the code of the error."""
    found: list[KafkaError | None] = []
    producer = Producer({**client, "enable.idempotence": True, "acks": "all", "message.timeout.ms": 10_000})
    producer.produce(topic, b"x", on_delivery=lambda error, _: found.append(error))
    producer.flush(timeout_s)
    assert found, "neither delivered nor refused"
    return found[0].code() if found[0] is not None else None


def read(client: dict[str, Any], topic: str, group: str) -> bytes | int:
    """The first record of a topic, or the code of the error that came instead."""
    consumer = Consumer({**client, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe([topic])
    try:
        end = time.monotonic() + 30
        while time.monotonic() < end:
            message = consumer.poll(1)
            if message is not None:
                error = message.error()
                return error.code() if error is not None else message.value() or b""
        raise AssertionError("neither a record nor an error")
    finally:
        consumer.close()


def test_a_user_writes_to_its_intake_and_reads_its_answers(door: str, kafka: str) -> None:
    assert written(sensors(door), "intake.acme") is None
    assert written(login(door, "globex.shop", "battery-staple"), "intake.globex") is None
    assert written({"bootstrap.servers": kafka}, "responses.acme") is None  # we are admission, here
    assert read(sensors(door), "responses.acme", "acme.readers") == b"x"


@pytest.mark.parametrize("topic", ["intake.globex", "responses.acme", "responses.globex", "journal", "config", "usage"])
def test_it_can_write_nowhere_else(door: str, topic: str) -> None:
    assert written(sensors(door), topic) in DENIED


@pytest.mark.parametrize("topic", ["intake.acme", "responses.globex", "responses", "journal", "config", "dead_letters"])
def test_it_can_read_nothing_else(door: str, topic: str) -> None:
    assert read(sensors(door), topic, "acme.readers") in DENIED


@pytest.mark.parametrize("group", ["globex.readers", "relay", "acme"])
def test_it_can_join_no_group_of_others(door: str, group: str) -> None:
    assert read(sensors(door), "responses.acme", group) in DENIED


def test_it_sees_no_topics_of_others_and_changes_nothing(door: str) -> None:
    admin = AdminClient(sensors(door))
    assert set(admin.list_topics(timeout=10).topics) == {"intake.acme", "responses.acme"}
    grab = acls("globex.shop")[0]
    mine = AclBinding(grab.restype, grab.name, grab.resource_pattern_type, "User:acme.sensors", "*", grab.operation,
                      grab.permission_type)  # fmt: skip
    taken = UserScramCredentialDeletion("globex.shop", ScramMechanism.SCRAM_SHA_512)
    for change in (
        admin.create_topics([NewTopic("intake.acme2", 1, 1)]),
        admin.delete_topics(["intake.globex"]),
        admin.create_acls([mine]),
        admin.alter_user_scram_credentials([taken]),
    ):
        for future in change.values():
            with pytest.raises(KafkaException):
                future.result(10)


@pytest.mark.parametrize(
    ("user", "password"), [("acme.sensors", "wrong-password"), ("acme.nobody", "correct-horse"), ("ANONYMOUS", "")]
)
def test_nobody_enters_without_a_password(door: str, user: str, password: str) -> None:
    faults: list[KafkaError] = []
    admin = AdminClient({**login(door, user, password or "anything"), "error_cb": faults.append})
    with pytest.raises(KafkaException):
        admin.list_topics(timeout=5)
    admin.poll(1)
    assert KafkaError._AUTHENTICATION in {fault.code() for fault in faults}


def test_a_user_that_is_gone_can_do_nothing_with_the_connection_it_holds(
    parts: Parts, door: str, applied: Path, kafka: str
) -> None:
    old = login(door, "acme.old", "correct-horse")
    held = Producer({**old, "message.timeout.ms": 10_000})
    faults: list[KafkaError | None] = []
    held.produce("intake.acme", b"x", on_delivery=lambda error, _: faults.append(error))
    held.flush(15)
    assert faults == [None]
    (applied / "all.yaml").write_text(TENANTS.replace(", {name: old, password: correct-horse}", ""))
    assert apply(parts, applied, SHOP).returncode == 0

    def refused() -> bool:
        held.produce("intake.acme", b"x", on_delivery=lambda error, _: faults.append(error))
        held.flush(15)
        return faults[-1] is not None and faults[-1].code() in DENIED

    await_(refused, "its records are refused", 20)
    # Held in a name: the future of a client that was collected never ends.
    admin = AdminClient({"bootstrap.servers": kafka})
    known = admin.describe_user_scram_credentials().result(10)
    assert set(known) == {"acme.sensors", "globex.shop"}
    assert written(sensors(door), "intake.acme") is None


def test_a_password_that_is_missing_is_one_clear_line_and_changes_nothing(
    parts: Parts, door: str, applied: Path
) -> None:
    done = apply(parts, applied, {"SHOP_PASSWORD": ""})
    assert done.returncode == 1
    assert done.stderr == (
        "not applied: tenants.globex.kafka_users[0]: the environment variable SHOP_PASSWORD is not set\n"
    )
    assert written(login(door, "globex.shop", "battery-staple"), "intake.globex") is None


def test_ours_do_all_on_the_plaintext_listener(kafka: str) -> None:
    consumer = Consumer(settings.consumer(kafka, "anything", "anything"))
    consumer.assign([TopicPartition("intake.globex", 0, 0)])
    assert consumer.list_topics(timeout=10).topics.keys() >= {"journal", "intake.acme", "intake.globex"}
    consumer.close()
