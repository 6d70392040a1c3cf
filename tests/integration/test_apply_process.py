"""`python -m ingest.apply` on a real broker and registry."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from journal_tail import everything
from parts import Parts
from processes import apply

from schemas import topics
from schemas.config import decode_config, decode_policy
from schemas.limits import Limit
from schemas.wire import Codec

GOOD = """
tenants:
  acme:
    keys: [{name: k, key: secret-key-in-clear}]
    limits: []
  pasing: {}
pools: {echo: {engine: echo}}
models: {echo: {route: [echo], price: {input: 0, output: 0}}}
"""


def policies(bootstrap: str, codec: Codec) -> dict[str, tuple[Limit, ...]]:
    """The last policy's limits by tenant."""
    found = [r for r in everything(bootstrap, codec, topics.JOURNAL) if "document" in r]
    return {str(r["tenant"]): decode_policy(str(r["document"])).limits for r in found}


def test_a_configuration_is_published_whole(parts: Parts, kafka: str, codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    began = time.monotonic()
    done = apply(parts, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert time.monotonic() - began < 15
    config = decode_config(str(everything(kafka, codec, topics.CONFIG)[-1]["document"]))
    assert config.version in done.stdout
    assert "acme" in done.stdout
    assert "secret-key-in-clear" not in str(everything(kafka, codec, topics.CONFIG)) + done.stdout
    assert policies(kafka, codec)["acme"] == ()
    names = AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).topics
    assert {"intake.acme", "intake.pasing", "work.echo.interactive", "work.echo.batch"} <= set(names)


def test_a_removed_tenant_may_send_nothing_any_more(parts: Parts, kafka: str, codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    assert apply(parts, tmp_path).returncode == 0
    (tmp_path / "all.yaml").write_text(GOOD.replace("  pasing: {}\n", ""))
    assert apply(parts, tmp_path).returncode == 0
    assert policies(kafka, codec)["pasing"] == (Limit(on="requests", per="minute", max=0),)
    assert "pasing" not in decode_config(str(everything(kafka, codec, topics.CONFIG)[-1]["document"])).tenants


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [("engine: echo", "engine: eco", 7), ("route: [echo]", "route: [no]", 8), ("limits: []", "limits: [", 7)],
)
def test_a_fault_publishes_nothing(
    parts: Parts, kafka: str, codec: Codec, tmp_path: Path, old: str, new: str, line: int
) -> None:
    (tmp_path / "all.yaml").write_text(GOOD.replace(old, new))
    before = everything(kafka, codec, topics.CONFIG)
    done = apply(parts, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{tmp_path / 'all.yaml'}:{line}: ")
    assert done.stderr.count("\n") == 1
    assert everything(kafka, codec, topics.CONFIG) == before


def test_parts_that_are_away_are_one_clear_line(parts: Parts, kafka: str, codec: Codec, tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(GOOD)
    for name, address in (("MILLRACE_REGISTRY", "http://127.0.0.1:9/x"), ("MILLRACE_KAFKA", "127.0.0.1:9")):
        done = apply(parts, tmp_path, {name: address})
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("not applied: ")
        assert "Traceback" not in done.stderr
