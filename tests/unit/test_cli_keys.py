"""Keys in the files of the configuration: one more or one less, and not a character else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ingest import configuration
from ingest.cli import key_lines
from ingest.cli.__main__ import app
from ingest.cli.key_lines import Unclear
from ingest.documents import load
from schemas.config import hash_key

CONFIG = Path(__file__).parents[2] / "config"
KEY = {"name": "new", "key": "sha256:" + "a" * 64, "roles": ["client", "analyst"]}

LAYOUTS = {
    "one a line": """
# the tenants
tenants:
  acme:
    keys:
      # the first
      - {name: one, key: k1}   # of one
      # the second
      - {name: two, key: "k # 2", roles: [client]}

    store: full  # kept
  other: {keys: [{name: one, key: k9}]}
""",
    "blocks": """
tenants:
  acme:
    store: full
    keys:
    - name: one
      key: k1
      roles:
        - client
        - admin

    # about two
    - name: two
      key: k2
""",
    "in one line": "tenants: {acme: {keys: [{name: one, key: k1}, {name: two, key: k2}], store: full}}\n",
    "no end of line": "tenants:\n  acme:\n    keys:\n    - {name: one, key: k1}\n    - {name: two, key: k2}",
    "broken lines": "tenants:\n  acme:\n    keys: [\n      {name: one, key: k1},\n      {name: two,\n"
    "       key: k2} ]\n",
    "other names": 'tenants:\n  other: {keys: [{name: one, key: k3}]}\n  "acme":\n    "keys":\n'
    "      - {key: k1, name: 'one'}\n      - {name: two, key: ü}\n",
}


def keys(text: str) -> list[dict]:
    return load("text", text).data["tenants"]["acme"]["keys"]


def rest(text: str) -> dict:
    data = load("text", text).data
    return {**data, "tenants": {**data["tenants"], "acme": {**data["tenants"]["acme"], "keys": None}}}


@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_a_key_is_added_and_taken_out_again(text):
    more = key_lines.added(text, "acme", KEY)
    assert keys(more) == [KEY, *keys(text)] and rest(more) == rest(text)
    less = key_lines.removed(more, "acme", "new")
    # Where a list begins on a line of its own, it does so no more.
    assert less == text if "[\n" not in text else "".join(less.split()) == "".join(text.split())


@pytest.mark.parametrize("name", ["one", "two"])
@pytest.mark.parametrize("text", LAYOUTS.values(), ids=LAYOUTS)
def test_any_key_can_be_taken_out_and_the_last_one_leaves_an_empty_list(text, name):
    one = key_lines.removed(text, "acme", name)
    assert [key["name"] for key in keys(one)] == [{"one": "two", "two": "one"}[name]] and rest(one) == rest(text)
    none = key_lines.removed(one, "acme", keys(one)[0]["name"])
    assert keys(none) == [] and rest(none) == rest(text)
    assert keys(key_lines.added(none, "acme", KEY)) == [KEY]


def test_comments_stay():
    text = LAYOUTS["one a line"]
    assert key_lines.removed(text, "acme", "one") == text.replace("      - {name: one, key: k1}   # of one\n", "")


@pytest.mark.parametrize(
    "text",
    [
        "tenants: {acme: {store: full}}",
        "tenants: {acme: {keys: }}",
        "tenants: {other: {keys: []}}",
        "pools: {}",
        # Changing one of two that are written once would change the other.
        "tenants:\n  other:\n    keys: &k\n      - {name: one, key: k1}\n  acme: {keys: *k}\n",
        "tenants:\n  acme:\n    keys:\n      -\n        name: one\n        key: k1\n      -\n        name: two\n",
    ],
)
def test_what_it_cannot_change_safely_it_leaves(text):
    with pytest.raises(Unclear):
        key_lines.removed(text, "acme", "one")


def test_names_that_yaml_would_misread_are_quoted():
    for name in ("no", "a: b", "#x", 'say "hi"', "ü", "1e3", "- x"):
        text = key_lines.added(LAYOUTS["one a line"], "acme", {**KEY, "name": name})
        assert keys(text)[0]["name"] == name
        assert key_lines.removed(text, "acme", name) == LAYOUTS["one a line"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(CONFIG, tmp_path / "config"))


def run(*line: str) -> Result:
    return CliRunner().invoke(app, ["keys", *line])


def test_a_new_key_is_shown_once_and_only_its_hash_is_kept(folder):
    done = run("new", "acme", "ci", "--role", "analyst", "--config", str(folder), "--json")
    assert done.exit_code == 0, done.stderr
    made = json.loads(done.stdout)
    assert made["key"] not in (folder / "tenants.yaml").read_text()
    (key,) = [k for k in configuration.read(folder).tenants["acme"].keys if k.name == "ci"]
    assert key.roles == ("analyst",) and hash_key(key.key) == hash_key(made["key"]) == made["sha256"]
    again = run("new", "acme", "ci", "--config", str(folder))
    assert again.exit_code == 1 and "already" in again.stderr and not again.stdout
    assert run("revoke", "acme", "ci", "--config", str(folder)).stdout == "acme/ci\n"
    assert (folder / "tenants.yaml").read_text() == (CONFIG / "tenants.yaml").read_text()
    gone = run("revoke", "acme", "ci", "--config", str(folder), "--json")
    assert gone.exit_code == 1 and json.loads(gone.stderr)["error"]["code"] == "no_such_key"
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in CONFIG.iterdir())


def test_without_a_folder_the_line_is_shown_and_two_keys_differ():
    one, two = run("new", "acme", "ci"), run("new", "acme", "ci")
    assert one.stdout != two.stdout and len(one.stdout.strip()) > 40
    assert f"sha256:{hash_key(one.stdout.strip())}" in one.stderr and one.stdout.strip() not in one.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (("new", "nobody", "ci"), "no tenant 'nobody'"),
        (("revoke", "acme", "none"), "it has demo"),
    ],
)
def test_what_is_not_there_is_told(folder, line, says):
    done = run(*line, "--config", str(folder))
    assert done.exit_code == 1 and says in done.stderr


def test_a_broken_folder_is_left_alone(folder):
    (folder / "models.yaml").write_text("pools: {x: {engine: none}}\n")
    before = (folder / "tenants.yaml").read_bytes()
    done = run("new", "acme", "ci", "--config", str(folder))
    assert done.exit_code == 1 and "models.yaml" in done.stderr and not done.stdout
    assert (folder / "tenants.yaml").read_bytes() == before
    assert run("new", "acme", "ci", "--config", str(folder / "none")).exit_code == 1


def test_a_file_keeps_its_mode_and_its_place_behind_a_link(folder, tmp_path):
    real = tmp_path / "real.yaml"
    (folder / "tenants.yaml").rename(real)
    real.chmod(0o640)
    (folder / "tenants.yaml").symlink_to(real)
    assert run("new", "acme", "ci", "--config", str(folder)).exit_code == 0
    assert (folder / "tenants.yaml").is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert "ci" in real.read_text()
