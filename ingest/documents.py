"""YAML with the place of everything in it. Pure.

YAML 1.2's core schema: only true and false are booleans (so the key `on` stays a string), dates stay strings.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml

Place = tuple[str, int]


class DocumentError(Exception):
    """A fault at a line of a file; str() is one line, `file:line: what`."""

    def __init__(self, place: Place, what: str) -> None:
        super().__init__(f"{place[0]}:{place[1]}: {what}" if place[1] else f"{place[0]}: {what}")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: Any = {}  # noqa: RUF012 (PyYAML's own way)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    sign, digits = (text[0], text[1:]) if text[0] in "-+" else ("", text)
    base = {"0o": 8, "0x": 16}.get(digits[:2], 10)
    return int(sign + (digits[2:] if base != 10 else digits), base)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its data, and the node tree that knows the lines."""

    name: str
    data: dict[str, Any]
    root: yaml.MappingNode | None

    def place(self, path: str) -> Place:
        """File and line of a path such as `tenants.acme.limits[0].max`, or of what is nearest above it."""
        return self.name, _line(self.root, path) if self.root else 1


def load(name: str, text: str) -> Document:
    """Read one file. Raises DocumentError: not YAML, not a mapping, or a key that is there twice."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        _refuse_twins(name, root, set())
        data = loader.construct_document(root) if root is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise DocumentError((name, mark.line + 1 if mark else 0), error.problem or str(error)) from None
    except (yaml.YAMLError, ValueError) as error:
        raise DocumentError((name, 0), str(error).splitlines()[0]) from None
    finally:
        loader.dispose()
    if data is None:
        data, root = {}, None
    if not isinstance(data, dict):
        raise DocumentError((name, 1), "expected sections such as `tenants:` or `models:`")
    return Document(name, data, root if isinstance(root, yaml.MappingNode) else None)


def _refuse_twins(name: str, node: Any, seen: set[int]) -> None:
    """PyYAML would silently take the last of two equal keys."""
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twins(name, item, seen)
        return
    keys: set[str] = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in keys:
                raise DocumentError((name, key.start_mark.line + 1), f"`{key.value}` is here twice")
            keys.add(key.value)
        _refuse_twins(name, value, seen)


INDEX: Final = re.compile(r"\[(\d+)\]")


def _line(node: Any, path: str) -> int:
    """Line of what `path` names below `node`; names may themselves contain dots."""
    line = int(node.start_mark.line) + 1
    rest = path.removeprefix(".")
    if isinstance(node, yaml.SequenceNode) and (index := INDEX.match(rest)) and int(index[1]) < len(node.value):
        return _line(node.value[int(index[1])], rest[index.end() :])
    if isinstance(node, yaml.MappingNode):
        for key, value in sorted(node.value, key=lambda pair: -len(str(pair[0].value))):
            name = str(key.value)
            if rest == name or rest.startswith((f"{name}.", f"{name}[")):
                below = rest[len(name) :]
                return _line(value, below) if below else int(key.start_mark.line) + 1
    return line
