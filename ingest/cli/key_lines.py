"""Adds and removes an API key in the text of a YAML file, and leaves every other character as it is. Pure.

The edit is made at the place that the parser gives, then proven: read again, the file must differ in that key and in
nothing else. Where that fails (anchors, odd layouts), nobody's file is changed, and a person is asked to do it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import orjson
import yaml

from ingest.documents import Document, DocumentError, load

Key = dict[str, Any]


class Unclear(Exception):
    """The edit cannot be made safely. The message says why."""


def item(key: Key) -> str:
    """A key as one entry of a list. JSON's strings are YAML's."""
    return "{" + ", ".join(f"{name}: {_scalar(value)}" for name, value in key.items()) + "}"


def _scalar(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list) else orjson.dumps(value).decode()


def names(document: Document, tenant: str) -> list[str]:
    """Names of the tenant's keys in a file; none where it says nothing of that tenant."""
    entry = (document.data.get("tenants") or {}).get(tenant) or {}
    return [str(key.get("name")) for key in entry.get("keys") or []]


def added(text: str, tenant: str, key: Key) -> str:
    """The file with one more key. Raises Unclear."""
    _, keys = _keys(text, tenant)
    if keys.flow_style:
        at = keys.start_mark.index + 1
        new = text[:at] + item(key) + (", " if keys.value else "") + text[at:]
    else:
        # Before the first entry: its line begins with the indentation that all of them have.
        at = keys.start_mark.index - keys.start_mark.column
        new = f"{text[:at]}{' ' * keys.start_mark.column}- {item(key)}\n{text[at:]}"
    return _proven(text, new, tenant, lambda before: [key, *before])


def removed(text: str, tenant: str, name: str) -> str:
    """The file without the keys of that name. Raises Unclear."""
    title, keys = _keys(text, tenant)
    gone = [i for i, node in enumerate(keys.value) if _name(node) == name]
    if len(gone) != 1:
        raise Unclear(f"{len(gone)} keys are called {name!r}")
    (i,) = gone
    last = len(keys.value) - 1
    if last == 0:
        # An empty list has to be written as one.
        new = f"{text[: title.end_mark.index]}: []{text[_end(keys.value[0] if not keys.flow_style else keys) :]}"
    elif keys.flow_style:
        start = keys.value[i].start_mark.index if i < last else _end(keys.value[i - 1])
        new = text[:start] + text[keys.value[i + 1].start_mark.index if i < last else _end(keys.value[i]) :]
    else:
        start = keys.value[i].start_mark.index - keys.value[i].start_mark.column
        end = text.find("\n", _end(keys.value[i]))
        new = text[:start] + ("" if end < 0 else text[end + 1 :])
    return _proven(text, new, tenant, lambda before: [key for key in before if key["name"] != name])


def _keys(text: str, tenant: str) -> tuple[yaml.Node, yaml.SequenceNode]:
    """The nodes of `keys` below a tenant: its title and its list. Raises Unclear."""
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    title: Any = None
    for name in ("tenants", tenant, "keys"):
        pairs = node.value if isinstance(node, yaml.MappingNode) else []
        title, node = next(((k, v) for k, v in pairs if k.value == name), (None, None))
        if node is None:
            raise Unclear(f"there is no `{name}` on the way to tenants.{tenant}.keys")
    if not isinstance(node, yaml.SequenceNode):
        raise Unclear(f"tenants.{tenant}.keys is no list")
    return title, node


def _name(node: Any) -> str | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((str(v.value) for k, v in pairs if k.value == "name"), None)


def _end(node: Any) -> int:
    """Where the text of a node ends. A block's own mark lies behind blanks and comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)


def _proven(text: str, new: str, tenant: str, change: Callable[[list[Key]], list[Key]]) -> str:
    """`new`, if it says what `text` says with only that list changed. Raises Unclear."""
    wanted = copy.deepcopy(load("before", text).data)
    wanted["tenants"][tenant]["keys"] = change(wanted["tenants"][tenant]["keys"])
    try:
        found = load("after", new).data
    except DocumentError:
        found = {}
    if found != wanted:
        raise Unclear("it is written in a way that cannot be changed by itself")
    return new
