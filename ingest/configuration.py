"""The configuration from a folder of YAML, with file and line of a fault."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import msgspec

from ingest.documents import Document, DocumentError, Place, load
from schemas.config import ConfigError, Configuration, Model, Pool, Rule, Tenant
from schemas.config_check import parse
from streams.moderation import Moderator

SECTIONS: Final[dict[str, Any]] = {
    "tenants": Tenant,
    "pools": Pool,
    "models": Model,
    "aliases": str,
    "rule_sets": tuple[Rule, ...],
}
UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


def read(folder: Path) -> Configuration:
    """The configuration in `folder`, all its .yaml files together. Raises DocumentError; opens nothing else."""
    if not folder.is_dir():
        raise DocumentError((str(folder), 0), "there is no such folder")
    paths = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    if not paths:
        raise DocumentError((str(folder), 0), "there is no .yaml file in it")
    return combine([_document(path) for path in paths])


def _document(path: Path) -> Document:
    try:
        return load(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError((str(path), 0), f"cannot be read: {error}") from None


def combine(documents: list[Document]) -> Configuration:
    """The configuration that these files make together. Raises DocumentError with the place of the first fault."""
    merged = _merge(documents)
    try:
        configuration = parse(merged)
        _compile(configuration)
    except ConfigError as error:
        where, what = _find(merged, error)
        raise DocumentError(_place(documents, where), f"{where}: {what}") from None
    return configuration


def _merge(documents: list[Document]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for document in documents:
        for section, content in document.data.items():
            if section not in SECTIONS:
                known = ", ".join(SECTIONS)
                raise DocumentError(document.place(str(section)), f"there is no section `{section}`; known: {known}")
            if not isinstance(content, dict):
                if content is None:
                    continue
                raise DocumentError(document.place(section), f"`{section}` must map names to what they are")
            target = merged.setdefault(section, {})
            for name, value in content.items():
                if not isinstance(name, str):
                    raise DocumentError(document.place(section), f"{section}: the name {name!r} must be in quotes")
                if name in target:
                    raise DocumentError(document.place(f"{section}.{name}"), f"{section}.{name} is in two files")
                target[name] = value
    return merged


def _compile(configuration: Configuration) -> None:
    for name, rules in configuration.rule_sets.items():
        for i, rule in enumerate(rules):
            try:
                Moderator((rule,))
            except ConfigError as error:
                raise ConfigError(f"rule_sets.{name}[{i}]", error.what) from None
        try:
            Moderator(rules)
        except ConfigError as error:
            raise ConfigError(f"rule_sets.{name}", f"{error.where}: {error.what}") from None


def _find(merged: dict[str, Any], error: ConfigError) -> tuple[str, str]:
    """Where the fault is and what: msgspec writes `...` for a name, so each entry is tried alone."""
    for section, kind in SECTIONS.items():
        for name, value in merged.get(section, {}).items():
            try:
                msgspec.convert(value, kind)
            except msgspec.ValidationError as fault:
                what, _, at = str(fault).partition(" - at ")
                path = at.rpartition("`$")[2].rstrip("`")
                if unknown := UNKNOWN.search(what):
                    path += f".{unknown[1]}"
                return f"{section}.{name}{path}", what
    return error.where, error.what


def _place(documents: list[Document], where: str) -> Place:
    """The file that holds the entry, and the line."""
    section, _, rest = where.partition(".")
    for document in documents:
        entries = document.data.get(section) or {}
        if any(rest == name or rest.startswith((f"{name}.", f"{name}[")) for name in entries):
            return document.place(where)
    return next((d.place(section) for d in documents if section in d.data), (documents[0].name, 0))
