"""Real parts for integration tests: started for each file of tests, on first use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from parts import Parts

from infra.local import topics as declared
from schemas import registry
from schemas.wire import Codec


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parts]:
    """A folder for parts; nothing runs in it yet."""
    held = Parts(tmp_path_factory.mktemp("stack"))
    yield held
    held.stop_all()


@pytest.fixture(scope="module")
def kafka(parts: Parts, request: pytest.FixtureRequest) -> str:
    """A broker with all fixed topics; its address."""
    if "codec" in request.fixturenames:
        parts.begin("registry")  # both take seconds, mostly of waiting
    parts.start("kafka")
    declared.make(parts.bootstrap)
    return parts.bootstrap


@pytest.fixture(scope="module")
def codec(parts: Parts) -> Codec:
    """A schema registry, and a codec with its ids."""
    parts.start("registry")
    return registry.connect(parts.environment("test")["MILLRACE_REGISTRY"])
