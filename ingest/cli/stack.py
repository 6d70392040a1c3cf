"""The parts behind the API, for commands of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ingest.cli.fault import Fault
from schemas.addresses import Addresses
from schemas.config import ConfigDocument

TIMEOUT_S: Final = 10.0


def addresses(env: Mapping[str, str]) -> Addresses:
    """Where Kafka, the registry, S3 and Redis are. Raises Fault if the environment does not say."""
    try:
        return Addresses.of(env)
    except KeyError as error:
        message = f"{error.args[0]} is not set: .venv/bin/millrace of a checkout sets what its own stack has"
        raise Fault(message, code="no_addresses") from None


def configuration(addresses: Addresses) -> ConfigDocument:
    """The configuration that is live. Raises Fault."""
    from ingest.follower import Follower
    from schemas import registry

    try:
        codec = registry.connect(addresses.registry)
    except Exception as error:  # the registry client raises its own, requests' and httpx's errors
        message = f"the schema registry at {addresses.registry} failed: {error}; is the stack up (`make up`)?"
        raise Fault(message, code="unreachable") from None
    follower = Follower(addresses.kafka, "cli", codec)
    follower.start()
    try:
        if not follower.wait(TIMEOUT_S) or follower.current is None:
            message = f"no configuration could be read from {addresses.kafka} within {TIMEOUT_S:.0f} s"
            raise Fault(message, code="not_configured")
        return follower.current
    finally:
        follower.stop()
