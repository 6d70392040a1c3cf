"""Users of Kafka for producers: SCRAM credentials and ACLs, as the configuration says.

A user `<tenant>.<name>` may write to `intake.<tenant>`, read `responses.<tenant>`, and use consumer groups whose names
begin with `<tenant>.`; no tenant's name has a dot, so no tenant's names are the beginning of another's. It may see
nothing else. Only users that a published configuration named are ever taken away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)

from schemas import topics
from schemas.config import ConfigDocument, Configuration, Tenant
from schemas.config_check import PASSWORD, PASSWORD_IS

ITERATIONS: Final = 8_192
ALL: Final = "*"


class UserError(Exception):
    """Users that cannot be made as they are written; the message names the place."""


def names(tenants: Mapping[str, Tenant]) -> set[str]:
    """Names of all users, as Kafka knows them."""
    return {f"{tenant}.{user.name}" for tenant, t in tenants.items() for user in t.kafka_users}


def former(documents: Iterable[ConfigDocument]) -> set[str]:
    """Users that configurations published before may have made."""
    return {name for document in documents for name in names(document.settings)}


def passwords(c: Configuration, env: Mapping[str, str]) -> dict[str, str]:
    """Password by user. Raises UserError naming a variable that is not set, or what it holds that cannot be."""
    found: dict[str, str] = {}
    for tenant, t in c.tenants.items():
        for i, user in enumerate(t.kafka_users):
            where = f"tenants.{tenant}.kafka_users[{i}]"
            password = user.password or env.get(user.password_env, "")
            if not password:
                raise UserError(f"{where}: the environment variable {user.password_env} is not set")
            if not PASSWORD.fullmatch(password):
                raise UserError(f"{where}: {user.password_env}: {PASSWORD_IS}")
            found[f"{tenant}.{user.name}"] = password
    return found


def acls(user: str) -> list[Any]:
    """What a user may do, and no more."""
    tenant = user.partition(".")[0]
    literal, prefixed = ResourcePatternType.LITERAL, ResourcePatternType.PREFIXED
    allowed = (
        (ResourceType.TOPIC, topics.intake(tenant).name, literal, AclOperation.WRITE),
        (ResourceType.TOPIC, topics.answers(tenant).name, literal, AclOperation.READ),
        (ResourceType.GROUP, f"{tenant}.", prefixed, AclOperation.READ),
    )
    # Whoever may write or read a topic, or read a group, may also describe it.
    return [
        AclBinding(kind, name, pattern, f"User:{user}", ALL, operation, AclPermissionType.ALLOW)
        for kind, name, pattern, operation in allowed
    ]


class Users:
    """The users of one cluster. Every method raises KafkaException, and may be repeated."""

    def __init__(self, bootstrap: str, timeout_s: float) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 2})
        self._timeout_s = timeout_s

    def remove(self, users: Iterable[str]) -> None:
        """Take away what these may do, then their credentials. A connection one holds is good for nothing then."""
        gone = sorted(users)
        if not gone:
            return
        every: Any = None  # of any name, from any host; the type hints know only strings
        whatever = (AclOperation.ANY, AclPermissionType.ANY)
        filters = [
            AclBindingFilter(ResourceType.ANY, every, ResourcePatternType.ANY, f"User:{user}", every, *whatever)
            for user in gone
        ]
        self._wait(self._admin.delete_acls(filters, request_timeout=self._timeout_s))
        deletions: list[Any] = [UserScramCredentialDeletion(user, ScramMechanism.SCRAM_SHA_512) for user in gone]
        done = self._admin.alter_user_scram_credentials(deletions, request_timeout=self._timeout_s)
        self._wait(done, but=KafkaError.RESOURCE_NOT_FOUND)

    def make(self, users: Mapping[str, str]) -> None:
        """Let these in with their passwords, and allow what they may do."""
        if not users:
            return
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        made: list[Any] = [
            UserScramCredentialUpsertion(user, info, word.encode()) for user, word in sorted(users.items())
        ]
        self._wait(self._admin.alter_user_scram_credentials(made, request_timeout=self._timeout_s))
        bindings = [binding for user in sorted(users) for binding in acls(user)]
        self._wait(self._admin.create_acls(bindings, request_timeout=self._timeout_s))

    def _wait(self, futures: Mapping[Any, Future[Any]], but: int | None = None) -> None:
        for future in futures.values():
            try:
                future.result(self._timeout_s + 1)
            except KafkaException as error:
                if error.args[0].code() != but:
                    raise
