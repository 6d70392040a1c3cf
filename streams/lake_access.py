"""What a tenant's own analyst may ask: rows of the views, and nothing that reads files or settings beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import duckdb

from streams import lake

VIEWS: Final = frozenset(path.stem for path in (Path(__file__).parent / "views").glob("*.sql"))
TABLES: Final = frozenset(table.name for table in lake.TABLES) | VIEWS
# Table functions that make rows of nothing but their arguments.
HARMLESS: Final = frozenset({"range", "generate_series", "unnest"})
# Scalar functions that tell of the machine or the session.
TELLING: Final = frozenset({"getenv", "current_setting", "getvariable", "read_text", "read_blob", "file_exists"})
_PLAIN: Final = re.compile(r"[a-z_][a-z0-9_]*", re.ASCII)


class Refused(Exception):
    """The query may not be run for a tenant; the message is one line."""


def check(query: str) -> None:
    """Raises Refused unless `query` is one SELECT over the views. Raises duckdb.Error where it is no SQL."""
    with duckdb.connect() as db:
        statements = db.extract_statements(query)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise Refused("for a tenant only one SELECT is run")
        row = db.execute("SELECT json_serialize_sql($1::VARCHAR)", [query]).fetchone()
    tree = json.loads(row[0]) if row else {}
    if tree.get("error"):
        raise Refused(f"for a tenant only a plain SELECT is run: {tree.get('error_message', '')}")
    nodes = list(_nodes(tree))
    own = {name for node in nodes for name in _named(node)}
    for node in nodes:
        kind = node.get("type")
        if kind == "BASE_TABLE" and (
            node.get("schema_name") or node.get("catalog_name") or node["table_name"].lower() not in TABLES | own
        ):
            raise Refused(f"there is no table {node['table_name']!r} for a tenant")
        name = str(node.get("function_name", "")).lower()
        if kind == "TABLE_FUNCTION" and str(node["function"].get("function_name", "")).lower() not in HARMLESS:
            raise Refused(f"{node['function'].get('function_name', 'this function')} is not run for a tenant")
        if name in TELLING:
            raise Refused(f"{name} is not run for a tenant")


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document."""
    if isinstance(tree, dict):
        yield tree
        tree = list(tree.values())
    if isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _named(node: dict[str, Any]) -> Iterator[str]:
    """Names that a query gives to parts of itself (WITH); none that could be a file where the part is not seen."""
    entries = node.get("cte_map", {})
    for entry in entries.get("map", ()) if isinstance(entries, dict) else ():
        name = str(entry.get("key", "")).lower()
        if not _PLAIN.fullmatch(name):
            raise Refused(f"{name!r} is no name for a part of a query of a tenant")
        yield name
