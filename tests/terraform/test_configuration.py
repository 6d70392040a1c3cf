"""Is it valid, formatted and tested; and would we hear of it if it were not?"""

from __future__ import annotations

import json
import re

import pytest

from tests.terraform import snapshot
from tests.terraform.harness import CHECKOUT, PROVIDERS, Terraform

MODULES = sorted((CHECKOUT / "infra" / "terraform" / "modules").iterdir())


def validate(terraform: Terraform) -> list[str]:
    """What `terraform validate` finds."""
    found = json.loads(terraform.run("validate", "-json").stdout)
    return [d["summary"] for d in found["diagnostics"]]


def test_it_is_valid(cloud, cluster):
    assert (validate(cloud), validate(cluster)) == ([], [])


@pytest.mark.parametrize(
    ("file", "right", "wrong", "summary"),
    [
        ("modules/redis/main.tf", "multi_az_enabled  ", "multi_zone_enabled", "Unsupported argument"),
        (
            "modules/lake/main.tf",
            "bucket_key_enabled = true",
            "bucket_key_enabled = []",
            "Incorrect attribute value type",
        ),
        ("modules/kafka/main.tf", "unauthenticated = false", "anonymous {}", "Unsupported block type"),
        ("modules/redis/main.tf", 'description                = "Live', "tags_all = {} #", "Missing required argument"),
        ("modules/watch/outputs.tf", "aws_sns_topic.this.arn", "aws_sns_topic.this.url", "Unsupported attribute"),
    ],
)
def test_a_mistake_is_found(tmp_path, file, right, wrong, summary):
    terraform = Terraform(tmp_path)
    path = terraform.root / file
    text = path.read_text()
    assert text.count(right) == 1
    path.write_text(text.replace(right, wrong))
    assert summary in validate(terraform)


def test_it_is_formatted(cloud):
    done = cloud.run("fmt", "-check", "-recursive", "-list=true", ".")
    assert done.returncode == 0, f"terraform fmt -recursive infra/terraform would change {done.stdout}"


def test_its_own_tests_pass(cloud, cluster):
    results = {**cloud.results(), **cluster.results()}
    assert len(results) >= 11
    assert {name: said for name, (status, said) in results.items() if status != "pass"} == {}


@pytest.mark.parametrize("provider", [s.name for s in snapshot.SOURCES])
def test_the_double_knows_what_is_declared(provider):
    known = json.loads((PROVIDERS / f"{provider}.json").read_text())
    used = snapshot.used(provider)
    assert (sorted(known["resources"]), sorted(known["data"])) == (used["resource"], used["data"]), (
        "run `make providers`"
    )


@pytest.mark.parametrize("module", MODULES, ids=lambda p: p.name)
def test_a_module_is_whole_and_every_variable_and_output_is_described(module):
    assert {p.name for p in module.iterdir()} >= {"main.tf", "variables.tf", "outputs.tf", "README.md"}
    for name in ("variables.tf", "outputs.tf"):
        blocks = re.findall(r'^(?:variable|output) "(\w+)" \{\n(.*?)^\}', (module / name).read_text(), re.M | re.S)
        assert blocks and not [n for n, body in blocks if "description = " not in body]
