"""What a fresh stack needs before our processes are of use: topics, schemas and a first configuration."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Final

from infra.local.probes import PROBES, load_clients
from infra.local.settings import Settings, Trouble

TIMEOUT_S: Final = 300
POLL_S: Final = 0.5


def make_topics(settings: Settings) -> None:
    """Create or alter the declared topics."""
    load_clients()  # only once there is a broker: it takes as long as the broker needs
    from infra.local import topics

    topics.make(settings.kafka)


def publish_schemas(settings: Settings) -> None:
    """Register every schema; raises Trouble where one no longer fits what is registered."""
    load_clients()
    from confluent_kafka.schema_registry.error import SchemaRegistryError

    from schemas import registry

    try:
        registry.publish(settings.registry)
    except SchemaRegistryError as error:
        raise Trouble(f"a schema was refused by the registry: {error}") from None


def apply_configuration(settings: Settings) -> None:
    """Publish config/ if nothing was ever published; raises Trouble with what is wrong in it."""
    from infra.local import topics

    if topics.configured(settings.kafka):
        return
    env = {**os.environ, **settings.environment("apply")}
    command = [sys.executable, "-m", "ingest.apply", "config"]
    done = subprocess.run(command, cwd=settings.checkout, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise Trouble(f"config/ cannot be applied: {lines[-1] if lines else 'no reason given'}")


def setup(settings: Settings) -> None:
    """All three, for a stack whose parts somebody else starts (docker compose); waits for broker and registry."""
    deadline = time.monotonic() + TIMEOUT_S
    for name in ("kafka", "registry"):
        while not PROBES[name](settings):
            if time.monotonic() > deadline:
                raise Trouble(f"{name} was not ready within {TIMEOUT_S} s")
            time.sleep(POLL_S)
    make_topics(settings)
    publish_schemas(settings)
    apply_configuration(settings)
