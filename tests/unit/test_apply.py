from __future__ import annotations

from pathlib import Path

import pytest

from ingest import apply, configuration
from ingest.documents import DocumentError, load
from ingest.publication import limits, policies
from schemas import config
from schemas.limits import Limit

HERE = Path(__file__).parents[2]
GOOD = """\
pools:
  echo: {engine: echo}
models:
  echo-1.5b: {route: [echo], price: {version: 2026-11-01}}
tenants:
  acme:
    keys: [{name: demo, key: k1}]
    limits:
      - {on: requests, per: minute, max: 600}
    moderation: default
rule_sets:
  default:
    - {id: p, match: banned}
"""


def combine(**texts: str) -> object:
    return configuration.combine([load(name, text) for name, text in texts.items()])


def fault(text: str, **more: str) -> str:
    with pytest.raises(DocumentError) as caught:
        combine(a=text, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_checkouts_own_configuration_is_in_order() -> None:
    c = configuration.read(HERE / "config")
    assert set(c.tenants) >= {"acme", "globex"}
    assert c.tenants["acme"].limits[0].on == "requests"
    assert c.models["smollm2-135m"].price.version == "2026-11"


def test_scalars_are_those_of_yaml_1_2() -> None:
    data = load("a", "a: [on, off, yes, no, y, true, False, 12, 0o17, 1e3, 2026-11-01, 12:30, null, 1_000, '7']").data
    expected = ["on", "off", "yes", "no", "y", True, False, 12, 15, 1000.0, "2026-11-01", "12:30", None, "1_000", "7"]
    assert data["a"] == expected


def test_files_are_one_configuration() -> None:
    pools, rest = GOOD.split("models:", 1)
    assert combine(a=pools, b="models:" + rest) == combine(a=GOOD)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("max: 600", "max: many", "a:9: tenants.acme.limits[0].max: Expected `int`, got `str`"),
        ("max: 600", "max: -1", "a:9: tenants.acme.limits[0].max: must not be negative"),
        ("per: minute, ", "", "a:9: tenants.acme.limits[0].per: "),
        ("on: requests", "on: request", "a:9: tenants.acme.limits[0].on: Invalid enum value 'request'"),
        ("{name: demo, key: k1}", "{name: demo}", "a:7: tenants.acme.keys[0]: Object missing required field `key`"),
        ("    moderation: default", "    moderaton: default", "a:10: tenants.acme.moderaton: Object contains unknown"),
        ("moderation: default", "moderation: none", "a:10: tenants.acme.moderation: there is no rule set 'none'"),
        ("route: [echo]", "route: [gone]", "a:4: models.echo-1.5b.route: there is no pool 'gone'"),
        ("route: [echo], ", "", "a:4: models.echo-1.5b: give either a route or a split"),
        ("match: banned", "regex: '(('", "a:13: rule_sets.default[0]: the pattern does not compile"),
        ("match: banned", "regex: '.*'", "a:13: rule_sets.default[0]: the pattern matches the empty text"),
        ("match: banned", "detect: aura", "a:13: rule_sets.default[0]: cannot detect 'aura'"),
        ("match: banned", "match: a, detect: credit_card", "a:13: rule_sets.default[0]: give exactly one"),
        ("tenants:", "tenant:", "a:5: there is no section `tenant`"),
        ("  acme:", "  ac me:", "a:6: tenants.ac me: a tenant's name has"),
        ("  acme:", "  1:", "a:5: tenants: the name 1 must be in quotes"),
        ("{engine: echo}", "{engine: echo", "a:3: "),
        ("{engine: echo}", "{engine: echo, engine: llama}", "a:2: `engine` is here twice"),
        ("{engine: echo}", "{engine: openai}", "a:2: pools.echo.base_url: "),
        ("{engine: echo}", "[echo]", "a:2: pools.echo: Expected `object`, got `array`"),
    ],
)
def test_a_fault_is_one_line_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in GOOD
    assert fault(GOOD.replace(old, new, 1)).startswith(expected)


def test_a_fault_in_the_second_file_names_it() -> None:
    assert fault(GOOD, b="\naliases: {x: nothing}").startswith("b:2: aliases.x: there is no model 'nothing'")
    assert fault(GOOD, b="pools:\n  echo: {engine: echo}").startswith("b:2: pools.echo is in two files")
    assert fault(GOOD, b="- 1").startswith("b:1: expected sections")
    assert fault(GOOD, b="a: *x").startswith("b:1: found undefined alias")


def test_folders_without_a_configuration(tmp_path: Path) -> None:
    for folder, what in ((tmp_path / "gone", "there is no such folder"), (tmp_path, "there is no .yaml file")):
        with pytest.raises(DocumentError, match=what):
            configuration.read(folder)
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DocumentError, match="cannot be read"):
        configuration.read(tmp_path)


def test_empty_files_and_sections_are_an_empty_configuration(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# nothing\n")
    (tmp_path / "b.yaml").write_text("tenants:\nmodels: {}\n")
    assert configuration.read(tmp_path).tenants == {}


def test_every_tenant_gets_a_policy_and_those_who_are_gone_may_send_nothing() -> None:
    c = configuration.combine([load("a", GOOD)])
    made = policies(config.document(c), ["acme", "gone"])
    assert [p.tenant for p in made] == ["acme", "gone"]
    assert made[0].limits == (Limit(on="requests", per="minute", max=600),)
    assert made[0].rules[0].id == "p"
    assert made[1].limits == (Limit(on="requests", per="minute", max=0),)
    assert made[1].rules == ()


def test_every_pool_and_tenant_gets_its_topics() -> None:
    names = {t.name for t in apply.needed_topics(configuration.combine([load("a", GOOD)]))}
    assert names >= {
        "journal",
        "intake.acme",
        "responses.acme",
        "work.echo.interactive",
        "work.echo.standard",
        "work.echo.batch",
    }


def test_every_limit_has_a_row_for_the_lake() -> None:
    document = config.document(configuration.combine([load("a", GOOD)]))
    (made,) = limits(config.policy_of(document, "acme"), "v1", 7)
    assert made == {
        "tenant": "acme", "version": "v1", "limit_id": "requests/minute//", "counts": "requests", "per": "minute",
        "model": "", "key_id": "", "most": 600, "at": 7,
    }  # fmt: skip
