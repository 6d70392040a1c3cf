"""What the stack under test is configured with."""

from pathlib import Path
from typing import Any

import yaml

BUDGET = 40


def tenant(name: str, **more: Any) -> dict[str, Any]:
    return {"keys": [{"name": "k", "key": f"mr-{name}"}], "limits": [], **more}


DOCUMENT: dict[str, Any] = {
    "tenants": {
        "acme": tenant("acme", moderation="rules"),
        "globex": tenant("globex"),
        "twin": tenant("twin"),
        "budget": tenant("budget", limits=[{"on": "requests", "per": "day", "max": BUDGET}]),
        "purse": tenant("purse", limits=[{"on": "total_tokens", "per": "day", "max": 1_000}]),
        "chaos": tenant("chaos", limits=[{"on": "requests", "per": "month", "max": 100_000}], moderation="rules"),
        "ops": tenant("ops") | {"keys": [{"name": "root", "key": "mr-ops", "roles": ["admin"]}]},
    },
    "pools": {
        "local": {"engine": "llama", "model": "smollm2-135m", "concurrency": 8},
        "echo": {"engine": "echo", "concurrency": 256},
        # Slow enough that much is in flight whenever something is killed.
        "slow": {"engine": "echo", "concurrency": 24, "first_token_ms": 200, "token_ms": 60},
    },
    "models": {
        "smollm2-135m": {
            "route": ["local"],
            "max_input_tokens": 1024,
            "max_output_tokens": 256,
            "price": {"version": "2026-11", "input": 50000, "output": 200000},
        },
        "echo": {"route": ["echo"], "price": {"version": "2026-11", "input": 1000000, "output": 2000000}},
        "slow": {"route": ["slow"], "price": {"version": "2026-11", "input": 1000000, "output": 2000000}},
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


def write(folder: Path, document: dict[str, Any] = DOCUMENT) -> Path:
    """The folder of YAML for `make apply`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "all.yaml").write_text(yaml.safe_dump(document))
    return folder
