"""millrace keys: API keys of tenants.

Keys live in the configuration, as hashes, and nowhere else: what is made here goes into its folder, and counts from
`millrace apply` on.
"""

from __future__ import annotations

import os
import secrets
from typing import Annotated, Final, get_args

import orjson
import typer
from rich.table import Table

from ingest.cli import stack, terminal
from ingest.cli.terminal import Json
from schemas.config import Role, hash_key

# 32 bytes of chance: a plain hash of so much cannot be turned back.
KEY_BYTES: Final = 32
SHOWN: Final = 12
ROLES: Final[tuple[str, ...]] = get_args(Role)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Make and list API keys.")
    for command in (new, ls):
        group.command()(command)
    app.add_typer(group, name="keys")


def make(tenant: str) -> str:
    """A new key. Its beginning tells whose it is, the rest is chance."""
    return f"mr-{tenant}-{secrets.token_urlsafe(KEY_BYTES)}"


def line(name: str, key: str, roles: list[str]) -> str:
    """The line of a key below `keys:` in tenants.yaml: with its hash, as nobody needs the key there."""
    quoted = orjson.dumps(name).decode()
    return f'- {{name: {quoted}, key: "sha256:{hash_key(key)}", roles: [{", ".join(roles)}]}}'


def new(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Argument(help="Whose key it is.")],
    name: Annotated[str, typer.Argument(help="What usage calls it.")],
    role: Annotated[
        list[str] | None, typer.Option(help="client, admin, tenant_admin or analyst. (default: client)")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key: prints it, once, and the line that lets it in."""
    roles = role or ["client"]
    if unknown := sorted(set(roles) - set(ROLES)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(ROLES)}", param_hint="--role")
    key = make(tenant)
    answer = {
        "object": "key",
        "tenant": tenant,
        "name": name,
        "roles": roles,
        "key": key,
        "sha256": hash_key(key),
        "yaml": line(name, key, roles),
    }
    terminal.show(ctx, answer, lambda: key)
    if not json:
        terminal.say(f"it counts once this stands below tenants.{tenant}.keys, and is applied:\n  {answer['yaml']}")


def ls(
    ctx: typer.Context,
    tenant: Annotated[str, typer.Option(help="Only those of one tenant.")] = "",
    json: Json = False,
) -> None:
    """List the keys of the configuration that is live (--json: one JSON object a line)."""
    live = stack.configuration(stack.addresses(os.environ))
    rows = [
        {"object": "key", "tenant": p.tenant, "name": p.name, "roles": list(p.roles), "sha256": digest}
        for digest, p in sorted(live.keys.items(), key=lambda item: (item[1].tenant, item[1].name))
        if tenant in ("", p.tenant)
    ]
    if json:
        for row in rows:
            terminal.line(row)
        return
    table = Table("tenant", "name", "roles", "sha256", box=None, pad_edge=False)
    for row in rows:
        table.add_row(str(row["tenant"]), str(row["name"]), ", ".join(row["roles"]), f"{row['sha256'][:SHOWN]}…")
    terminal.out().print(table)
