"""millrace keys: API keys of tenants.

Keys live in the configuration, as hashes, and nowhere else: what is made here goes into its folder, and counts from
`millrace apply` on.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated, Final, get_args

import typer
from rich.table import Table

from ingest.cli import stack, terminal
from ingest.cli.session import session
from ingest.cli.terminal import Json
from schemas.config import Role, hash_key

# 32 bytes of chance: a plain hash of so much cannot be turned back.
KEY_BYTES: Final = 32
SHOWN: Final = 12
ROLES: Final[tuple[str, ...]] = get_args(Role)


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
    for command in (new, ls, revoke):
        group.command()(command)
    app.add_typer(group, name="keys")


Tenant = Annotated[str, typer.Argument(help="Whose key it is.")]
Name = Annotated[str, typer.Argument(help="What it is called.")]


def make(tenant: str) -> str:
    """A new key. Its beginning tells whose it is, the rest is chance."""
    return f"mr-{tenant}-{secrets.token_urlsafe(KEY_BYTES)}"


def new(
    ctx: typer.Context,
    tenant: Tenant,
    name: Name,
    role: Annotated[
        list[str] | None,
        typer.Option(help="client (if none is given), admin, tenant_admin or analyst; may repeat."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="A folder of YAML to put it into; else its line is shown.")
    ] = None,
    json: Json = False,
) -> None:
    """Make a key, and print it, this once: only its hash is kept."""
    from ingest.cli import key_file, key_lines

    roles = role or ["client"]
    if unknown := sorted(set(roles) - set(ROLES)):
        raise typer.BadParameter(f"{unknown[0]!r} is none of {', '.join(ROLES)}", param_hint="--role")
    key = make(tenant)
    entry = {"name": name, "key": f"sha256:{hash_key(key)}", "roles": roles}
    path = key_file.add(config, tenant, entry) if config is not None else None
    answer = {
        "object": "key",
        "tenant": tenant,
        "name": name,
        "roles": roles,
        "sha256": hash_key(key),
        "key": key,
        "yaml": key_lines.item(entry),
        "file": path and str(path),
    }
    terminal.show(ctx, answer, lambda: key)
    if session(ctx).json:
        return
    if path is None:
        terminal.say(f"to let it in, put this below tenants.{tenant}.keys and apply it:\n  - {answer['yaml']}")
    else:
        terminal.say(f"{path} has it; `millrace apply {config}` lets it in")


def revoke(
    ctx: typer.Context,
    tenant: Tenant,
    name: Name,
    config: Annotated[Path, typer.Option("--config", help="The folder of YAML it is in.")] = Path("config"),
    json: Json = False,
) -> None:
    """Take a key out of the configuration; it is refused once that is applied."""
    from ingest.cli import key_file

    path = key_file.remove(config, tenant, name)
    answer = {"object": "key.revoked", "tenant": tenant, "name": name, "file": str(path)}
    terminal.show(ctx, answer, lambda: f"{tenant}/{name}")
    if not session(ctx).json:
        terminal.say(f"{path} has it no more; `millrace apply {config}` shuts it out")


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
    if session(ctx).json:
        for row in rows:
            terminal.line(row)
        return
    table = Table("tenant", "name", "roles", "sha256", box=None, pad_edge=False)
    for row in rows:
        table.add_row(str(row["tenant"]), str(row["name"]), ", ".join(row["roles"]), f"{row['sha256'][:SHOWN]}…")
    terminal.put(table)
