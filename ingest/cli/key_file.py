"""The folder of configuration with a key more or less: found, changed, checked as a whole, then written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ingest import configuration
from ingest.cli import key_lines
from ingest.cli.fault import Fault
from ingest.cli.key_lines import Key, Unclear
from ingest.documents import Document, DocumentError, load


def add(folder: Path, tenant: str, key: Key) -> Path:
    """Put a key into the file of its tenant; that file. Raises Fault."""
    documents = _read(folder)
    path, found = _of(documents, tenant, folder)
    if key["name"] in key_lines.names(found, tenant):
        raise Fault(f"{tenant} has a key called {key['name']!r} already", code="key_exists")
    by_hand = f"put `- {key_lines.item(key)}` below tenants.{tenant}.keys of {path} by hand"
    _change(documents, path, lambda text: key_lines.added(text, tenant, key), by_hand)
    return path


def remove(folder: Path, tenant: str, name: str) -> Path:
    """Take a key out of the file of its tenant; that file. Raises Fault."""
    documents = _read(folder)
    path, found = _of(documents, tenant, folder)
    names = key_lines.names(found, tenant)
    if name not in names:
        known = f"it has {', '.join(names)}" if names else "it has none"
        raise Fault(f"{tenant} has no key called {name!r}: {known}", code="no_such_key")
    place = found.place(f"tenants.{tenant}.keys[{names.index(name)}]")
    by_hand = f"take it out at {place[0]}:{place[1]} by hand"
    _change(documents, path, lambda text: key_lines.removed(text, tenant, name), by_hand)
    return path


def _read(folder: Path) -> dict[Path, Document]:
    """All files of a folder that is in order. Raises Fault."""
    try:
        configuration.read(folder)
        paths = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
        return {path: load(str(path), path.read_text(encoding="utf-8")) for path in paths}
    except DocumentError as error:
        raise Fault(str(error), code="invalid_configuration") from None
    except OSError as error:
        raise Fault(f"{folder} cannot be read: {error.strerror}") from None


def _of(documents: dict[Path, Document], tenant: str, folder: Path) -> tuple[Path, Document]:
    for path, document in documents.items():
        if tenant in (document.data.get("tenants") or {}):
            return path, document
    raise Fault(f"there is no tenant {tenant!r} in {folder}", code="no_such_tenant")


def _change(documents: dict[Path, Document], path: Path, edit: Callable[[str], str], by_hand: str) -> None:
    """Write the edited file, if the whole folder is in order with it. Raises Fault, and has changed nothing then."""
    try:
        text = edit(path.read_text(encoding="utf-8"))
        configuration.combine([*(d for p, d in documents.items() if p != path), load(str(path), text)])
        fresh = path.resolve().with_name(f".{path.name}.new")
        fresh.write_text(text, encoding="utf-8")
        fresh.chmod(path.stat().st_mode & 0o777)
        fresh.replace(path.resolve())
    except Unclear as error:
        raise Fault(f"{path} was left as it is ({error}): {by_hand}", code="unclear") from None
    except DocumentError as error:
        raise Fault(f"{path} was left as it is: {error}", code="invalid_configuration") from None
    except OSError as error:
        raise Fault(f"{path} cannot be written: {error.strerror}") from None
