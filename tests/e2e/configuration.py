"""What the stack under test is configured with."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

BUDGET = 40
# Calls that the tenant of one cell of the fault matrix may make.
CELL_CALLS = 12
# Requests that a tenant may make in a minute, and calls in a month, while the stack is stopped and started.
A_MINUTE, CARRIED = 25, 60
CARRIERS = ("carried-0", "carried-1", "carried-2", "carried-3")
UPGRADED = ("upgraded-0", "upgraded-1")
# Tokens that a tenant whose batches are cancelled may spend in a month.
PATIENCE = 10_000_000
# Tokens that a tenant's batches may have waiting.
ENQUEUED = 30_000
# What a tenant on the command line reads from and writes to.
CLI_BUCKET = "e2e-cli"
KEY_ENV = "E2E_UPSTREAM_KEY"
HOOK_ENV = "E2E_HOOK_SECRET"


def tenant(name: str, **more: Any) -> dict[str, Any]:
    return {"keys": [{"name": "k", "key": f"mr-{name}"}], "limits": [], **more}


CARRIED_LIMITS = [
    {"on": "requests", "per": "month", "max": CARRIED, "model": "echo"},
    {"on": "requests", "per": "minute", "max": A_MINUTE, "model": "slow"},
]

DOCUMENT: dict[str, Any] = {
    "tenants": {
        # As examples/produce.py has it.
        "acme": tenant(
            "acme", moderation="rules", kafka_users=[{"name": "demo", "password": "mr-acme-demo"}], answers="topic"
        ),
        "globex": tenant("globex"),
        "twin": tenant("twin"),
        "budget": tenant("budget", limits=[{"on": "requests", "per": "day", "max": BUDGET}]),
        "purse": tenant("purse", limits=[{"on": "total_tokens", "per": "day", "max": 1_000}]),
        "chaos": tenant("chaos", limits=[{"on": "requests", "per": "month", "max": 100_000}], moderation="rules"),
        "wallet": tenant("wallet", limits=[{"on": "cost_micros", "per": "day", "max": 2_000}]),
        "spent": tenant("spent", limits=[{"on": "requests", "per": "month", "max": 0}]),
        "watcher": tenant("watcher") | {"keys": [{"name": "k", "key": "mr-watcher", "roles": ["analyst"]}]},
        "broke": tenant("broke", limits=[{"on": "requests", "per": "month", "max": 1}]),
        "probe": tenant("probe"),
        "cli-purse": tenant("cli-purse", prepaid=True),
        "cli": tenant("cli", batch_uris=[f"s3://{CLI_BUCKET}/"]),
        "crowd": tenant("crowd"),
        "many": tenant("many"),
        "few": tenant("few"),
        "callers": tenant("callers"),
        "stuck": tenant("stuck"),
        "fickle": tenant("fickle", limits=[{"on": "total_tokens", "per": "month", "max": PATIENCE}]),
        "control": tenant("control"),
        "thrifty": tenant("thrifty", prepaid=True),
        "queued": tenant(
            "queued", limits=[{"on": "enqueued_tokens", "max": ENQUEUED}, {"on": "requests", "per": "day", "max": 1}]
        ),
        "relayed": tenant("relayed"),
        "leaky": tenant("leaky"),
        "splitter": tenant("splitter"),
        "guarded": tenant("guarded", guard={"pool": "judge", "message": "Judged."}),
        "prepaid": tenant("prepaid", prepaid=True),
        **{name: tenant(name, limits=CARRIED_LIMITS) for name in (*CARRIERS, *UPGRADED)},
        "maker": tenant("maker", kafka_users=[{"name": "sensors", "password": "correct-horse"}], answers="topic"),
        "rival": tenant("rival", kafka_users=[{"name": "sensors", "password": "battery-staple"}], answers="topic"),
        "ops": tenant("ops") | {"keys": [{"name": "root", "key": "mr-ops", "roles": ["admin"]}]},
    },
    "pools": {
        "local": {"engine": "llama", "model": "smollm2-135m", "concurrency": 8},
        "echo": {"engine": "echo", "concurrency": 256},
        "embed": {"engine": "static", "model": "wordllama-256", "concurrency": 4},
        "judge": {"engine": "echo", "concurrency": 16},
        # Nobody listens there.
        "dead": {"engine": "openai", "base_url": "http://127.0.0.1:9/v1", "model": "m", "concurrency": 4},
        # Slow enough that much is in flight whenever something is killed.
        "slow": {"engine": "echo", "concurrency": 24, "first_token_ms": 200, "token_ms": 60},
        # One generation takes minutes and all there is.
        "stuck": {"engine": "echo", "concurrency": 1, "token_ms": 1000, "first_token_timeout_ms": 2000},
        # A batch of thousands takes seconds there, each of them what it costs at half the price.
        "control": {"engine": "echo", "concurrency": 32, "first_token_ms": 20, "token_ms": 10},
        # Slow and wide: hundreds of generations are in their middle at any moment.
        "wide": {"engine": "echo", "concurrency": 300, "first_token_ms": 200, "token_ms": 200},
    },
    "models": {
        "smollm2-135m": {
            "route": ["local"],
            "max_input_tokens": 1024,
            "max_output_tokens": 256,
            "price": {"version": "2026-11", "input": 50000, "output": 200000},
        },
        "echo": {"route": ["echo"], "price": {"version": "2026-11", "input": 1000000, "output": 2000000}},
        "echo-b": {"route": ["echo"]},
        "wordllama-256": {"route": ["embed"], "embeds": True, "max_input_tokens": 512, "price": {"input": 1_000_000}},
        "ab": {
            "split": [{"model": "echo", "weight": 90, "cohort": "A"}, {"model": "echo-b", "weight": 10, "cohort": "B"}],
            "sticky": "user",
        },
        "candidate": {"route": ["dead"]},
        "risky": {
            "split": [{"model": "echo", "weight": 60}, {"model": "candidate", "weight": 40}],
            "sticky": "request",
            "canary": {"model": "candidate", "max_error_percent": 5, "min_requests": 10},
        },
        "shadowed": {"route": ["echo"], "shadow": {"model": "echo-b"}},
        "slow": {"route": ["slow"], "price": {"version": "2026-11", "input": 1000000, "output": 2000000}},
        "stuck": {"route": ["stuck", "echo"]},
        "control": {
            "route": ["control"],
            "max_output_tokens": 100,
            "price": {"version": "2026-11", "input": 1000000, "output": 2000000, "batch_percent": 50},
        },
        "wide": {"route": ["wide"], "price": {"version": "2026-11", "input": 1000000, "output": 2000000}},
    },
    "aliases": {"default": "echo"},
    "rule_sets": {
        "rules": [
            {
                "id": "prompt",
                "match": "a banned phrase",
                "stages": ["request"],
                "action": "block",
                "message": "Not here.",
            },
            {
                "id": "answer",
                "match": "a leaked secret",
                "stages": ["response"],
                "action": "block",
                "message": "Not said.",
            },
            {"id": "card", "detect": "credit_card", "stages": ["request", "response"], "action": "mask"},
        ]
    },
}


def document(mortal: str, telltale: str, cells: Iterable[str]) -> dict[str, Any]:
    """The same with two upstreams at these addresses, and a tenant of CELL_CALLS for each cell of the fault matrix."""
    limits = [{"on": "requests", "per": "month", "max": CELL_CALLS}]
    pools = {
        "mortal": {"engine": "openai", "base_url": mortal, "model": "m", "concurrency": 256},
        "after": {"engine": "echo", "concurrency": 64, "token_ms": 10},
        "telltale": {"engine": "openai", "base_url": telltale, "api_key_env": KEY_ENV, "model": "m", "concurrency": 8},
    }
    routes = {"relayed": ["mortal", "after"], "leaky": ["telltale"]}
    return {
        **DOCUMENT,
        "tenants": {**DOCUMENT["tenants"], **{name: tenant(name, limits=limits) for name in cells}},
        "pools": {**DOCUMENT["pools"], **pools},
        "models": {**DOCUMENT["models"], **{name: {"route": route} for name, route in routes.items()}},
    }


def write(folder: Path, document: dict[str, Any]) -> Path:
    """The folder of YAML for `make apply`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.yaml").write_text(yaml.safe_dump(document))
    return folder
