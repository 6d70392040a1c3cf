"""Where the command line talks to, what it makes of numbers, and how it fails."""

from __future__ import annotations

import json

import pytest
import typer
from typer.testing import CliRunner

from ingest.cli import options, quantities
from ingest.cli.__main__ import app
from ingest.cli.session import Address, find

LOCAL = "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize(
    ("env", "given", "address"),
    [
        ({}, ("", ""), Address(LOCAL, "")),
        ({"MILLRACE_HTTP_PORT": "18080"}, ("", "k"), Address("http://127.0.0.1:18080/v1", "k")),
        ({"MILLRACE_HTTP_HOST": "0.0.0.0"}, ("", ""), Address(LOCAL, "")),
        ({"MILLRACE_HTTP_HOST": "gateway"}, ("", ""), Address("http://gateway:8080/v1", "")),
        ({"MILLRACE_URL": "https://m.example/"}, ("", ""), Address("https://m.example/v1", "")),
        ({"MILLRACE_URL": "https://m.example/v1"}, ("http://other", "k"), Address("http://other/v1", "k")),
        ({"MILLRACE_API_KEY": "ours"}, ("", ""), Address(LOCAL, "ours")),
        # A key goes to the address it was made for, and nowhere else.
        ({"OPENAI_API_KEY": "theirs"}, ("", ""), Address(LOCAL, "")),
        ({"OPENAI_API_KEY": "theirs", "OPENAI_BASE_URL": "http://o/v1"}, ("", ""), Address("http://o/v1", "theirs")),
        (
            {"OPENAI_API_KEY": "theirs", "OPENAI_BASE_URL": "http://o/v1", "MILLRACE_API_KEY": "ours"},
            ("", ""),
            Address(LOCAL, "ours"),
        ),
        ({"OPENAI_API_KEY": "t", "OPENAI_BASE_URL": "http://o/v1"}, ("http://m", ""), Address("http://m/v1", "")),
    ],
)
def test_where_it_talks_to(env, given, address):
    assert find(env, *given) == address


def test_without_a_key_it_says_where_to_put_one(monkeypatch):
    for name in ("MILLRACE_API_KEY", "MILLRACE_URL", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(app, ["ls"])
    assert done.exit_code == 1 and "MILLRACE_API_KEY" in done.stderr and not done.stdout
    done = CliRunner().invoke(app, ["ls", "--json"])
    assert done.exit_code == 1 and json.loads(done.stderr)["error"]["code"] == "no_api_key"


@pytest.mark.parametrize(
    "line",
    [
        ["ls", "--nonsense"],
        ["submit"],
        ["submit", "/no/such/file.jsonl"],
        ["submit", "s3://b/k", "-m", "no-value"],
        ["submit", "s3://b/k", "-m", "a=1", "-m", "a=2"],
        ["get", "batch_1", "--partial"],
        ["get", "batch_1", "--results", "-", "--errors", "-"],
        ["get", "file-1", "--errors", "x"],
        ["ls", "--files", "--status", "failed"],
        ["usage", "--minutes", "0"],
        ["chat", " "],
        ["keys", "new", "acme", "n", "--role", "king"],
    ],
)
def test_a_command_line_that_makes_no_sense_is_status_2(line):
    done = CliRunner().invoke(app, ["--key", "k", *line])
    assert done.exit_code == 2 and not done.stdout, done.output


def test_metadata_is_pairs():
    assert options.pairs(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert options.pairs(None) is None
    with pytest.raises(typer.BadParameter):
        options.pairs(["=1"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (quantities.count(1_234_567), "1,234,567"),
        (quantities.count(0.5), "0.5"),
        (quantities.count(3.0), "3"),
        (quantities.size(900), "900 B"),
        (quantities.size(1536), "1.5 KiB"),
        (quantities.size(5 * 1024**4), "5.0 TiB"),
        (quantities.span(59.6), "1m"),
        (quantities.span(61), "1m 1s"),
        (quantities.span(7 * 3600), "7h"),
        (quantities.span(2 * 86_400 + 3_700), "2d 1h"),
        (quantities.span(-5), "0s"),
        (quantities.money(0), "0.00"),
        (quantities.money(326), "0.000326"),
        (quantities.money(12_345_678_900), "12,345.68"),
        (quantities.moment(None), "-"),
    ],
)
def test_numbers_are_short(text, expected):
    assert text == expected
