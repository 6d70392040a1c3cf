from __future__ import annotations

from typing import Any

import pytest

from ingest import kafka_users
from ingest.kafka_users import UserError
from schemas import config, config_check
from schemas.config import ConfigError, KafkaUser

USERS = [{"name": "sensors", "password": "correct-horse"}, {"name": "shop", "password_env": "SHOP"}]


def parse(users: Any = USERS) -> Any:
    return config_check.parse({"tenants": {"acme": {"kafka_users": users}, "acme-2": {}}})


def test_only_names_are_published() -> None:
    text = config.encode(config.document(parse()))
    assert "correct-horse" not in text and "SHOP" not in text
    published = config.decode_config(text)
    assert published.settings["acme"].kafka_users == (KafkaUser("sensors"), KafkaUser("shop"))
    assert kafka_users.former([published, config.document(parse([]))]) == {"acme.sensors", "acme.shop"}


def test_passwords_come_from_the_file_or_the_environment() -> None:
    assert kafka_users.passwords(parse(), {"SHOP": "battery-staple"}) == {
        "acme.sensors": "correct-horse",
        "acme.shop": "battery-staple",
    }


@pytest.mark.parametrize(("env", "why"), [({}, "SHOP is not set"), ({"SHOP": "short"}, "SHOP: a password has")])
def test_a_password_that_cannot_be_is_named_but_not_shown(env: dict[str, str], why: str) -> None:
    with pytest.raises(UserError, match=why) as caught:
        kafka_users.passwords(parse(), env)
    assert str(caught.value).startswith("tenants.acme.kafka_users[1]: ") and "short" not in str(caught.value)


@pytest.mark.parametrize(
    ("user", "where"),
    [
        ({"name": "a.b", "password": "long-enough"}, "name: a user's name"),
        ({"name": "", "password": "long-enough"}, "name: a user's name"),
        ({"name": "ä", "password": "long-enough"}, "name: a user's name"),
        ({"name": "a"}, ": give either"),
        ({"name": "a", "password": "long-enough", "password_env": "X"}, ": give either"),
        ({"name": "a", "password": "seven77"}, "password: a password has"),
        ({"name": "a", "password": "with blank"}, "password: a password has"),
        ({"name": "a", "password": "pässwörter"}, "password: a password has"),
    ],
)
def test_users_that_cannot_be_are_refused(user: dict[str, str], where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse([user])
    assert where in str(caught.value)


def test_a_name_is_used_once() -> None:
    with pytest.raises(ConfigError, match="another user of that name"):
        parse([USERS[0], USERS[0]])


def test_a_user_may_do_three_things() -> None:
    found = {
        (a.restype.name, a.name, a.resource_pattern_type.name, a.operation.name, a.principal, a.permission_type.name)
        for a in kafka_users.acls("acme.sensors")
    }
    assert found == {
        ("TOPIC", "intake.acme", "LITERAL", "WRITE", "User:acme.sensors", "ALLOW"),
        ("TOPIC", "responses.acme", "LITERAL", "READ", "User:acme.sensors", "ALLOW"),
        ("GROUP", "acme.", "PREFIXED", "READ", "User:acme.sensors", "ALLOW"),
    }
