"""Reads a provider's schema out of the TypeScript bindings that CDK for Terraform generates from it. Pure.

The bindings say of every argument its type, whether it is required, optional or computed, and whether it is an
attribute or a block. They say nothing of a provider's own validators (allowed values, conflicts): nor do we.
"""

from __future__ import annotations

import re
from typing import Any, Final

Schema = dict[str, Any]

FIELD: Final = re.compile(
    r"// (?P<name>\w+) - computed: (?P<computed>\w+), optional: (?P<optional>\w+), required: (?P<required>\w+)\s+"
    r"(?:private _\w+(?: = new (?P<cls>[\w.]+)\([^;]*\)|[^;=]*);\s+)?public get \w+\(\) \{\s+"
    r"(?:// [^\n]*\s+)?return (?P<get>[^;]+);"
)
ENTRY: Final = re.compile(
    r"\n\s+(?P<name>\w+): \{\s+value: (?P<value>[^\n]+),\s+isBlock: (?P<block>\w+),\s+type: \"(?P<type>\w+)\",\s+"
    r"storageClassType: \"(?P<storage>[\w.]+)\""
)
GETTERS: Final = {
    "getStringAttribute": "string",
    "getNumberAttribute": "number",
    "getBooleanAttribute": "bool",
    "getListAttribute": ["list", "string"],
    "getNumberListAttribute": ["list", "number"],
    "getStringMapAttribute": ["map", "string"],
    "getBooleanMapAttribute": ["map", "bool"],
    "getNumberMapAttribute": ["map", "number"],
    "getAnyMapAttribute": "dynamic",
    "interpolationForAttribute": "dynamic",
}
PLAIN: Final = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}


class Bindings:
    """One file of bindings: the classes and functions in it, by name.

    The bindings write a block that comes once and an object that is an attribute alike: `nested` says that the provider
    has only the latter.
    """

    def __init__(self, source: str, nested: bool = False) -> None:
        self._nested = nested
        pieces = re.split(r"\n\s*export (?=class |function |interface |namespace )", source)
        self._classes = {m[1]: p for p in pieces if (m := re.match(r"class (\w+)", p))}
        self._functions = {m[1]: p for p in pieces if (m := re.match(r"function (\w+)ToHclTerraform", p))}
        self._main = next(p for p in self._classes.values() if "synthesizeHclAttributes" in p)

    def schema(self) -> Schema:
        """The whole resource, data source or provider."""
        return self._body(self._main, self._main.split("synthesizeHclAttributes", 1)[1])

    def _body(self, cls: str, synthesis: str) -> Schema:
        """Attributes and blocks of a class, from its fields and from how it is written as HCL."""
        entries = {m["name"]: m for m in ENTRY.finditer(synthesis)}
        fields = {m["name"]: m for m in FIELD.finditer(cls)}
        found: Schema = {"attributes": {}, "blocks": {}}
        for name in sorted({*entries, *fields}):
            entry, field = entries.get(name), fields.get(name)
            if entry is not None and self._is_block(entry):
                block = self._block(entry, field)
                if self._nested:
                    found["attributes"][name] = [
                        {"nesting": block["nesting"], "attributes": block["attributes"]},
                        _flags(field),
                    ]
                else:
                    found["blocks"][name] = block
            else:
                found["attributes"][name] = [self._type(entry, field), _flags(field)]
        return found

    def _is_block(self, entry: re.Match[str]) -> bool:
        # `listMapperHcl(f, false)` marks a list of objects that is an attribute, whatever isBlock says.
        return entry["block"] == "true" and (self._nested or ", false)" not in entry["value"])

    def _block(self, entry: re.Match[str], field: re.Match[str] | None) -> Schema:
        function = re.search(r"(\w+)ToHclTerraform", entry["value"])
        assert function is not None, entry["value"]
        body = self._body(self._object(entry["storage"]), self._functions[function[1]])
        single = entry["type"] == "struct"
        # A block that may come once is bound to the object itself, one that may come often to a list of it.
        often = (
            single or "listMapper" in entry["value"] or (field is not None and (field["cls"] or "").endswith("List"))
        )
        least = int(field is not None and field["required"] == "true")
        return {"nesting": "single" if single else entry["type"], "min": least, "max": 0 if often else 1, **body}

    def _object(self, storage: str) -> str:
        """The class behind a storage type: `Resource.ThingPropertyList` is a list of ThingPropertyOutputReference."""
        return self._classes.get(storage.split(".")[-1].removesuffix("List") + "OutputReference", "")

    def _type(self, entry: re.Match[str] | None, field: re.Match[str] | None) -> Any:
        if field is not None and field["cls"]:
            return self._complex(entry, field)
        if entry is not None:
            return _stored(entry["type"], entry["storage"])
        assert field is not None
        for getter, kind in GETTERS.items():
            if f"this.{getter}(" in field["get"]:
                return ["set", kind[1]] if isinstance(kind, list) and "Fn.tolist" in field["get"] else kind
        raise ValueError(f"no type for {field[0]}")

    def _complex(self, entry: re.Match[str] | None, field: re.Match[str]) -> Any:
        """Objects and maps: what is not a plain value or a list of such."""
        package, _, name = field["cls"].rpartition(".")
        kind = entry["type"] if entry else "set" if ", true)" in field[0] else "list"
        if package in ("cdktn", "cdktf"):
            of = ["map", PLAIN[name.removesuffix("List").removesuffix("Map").lower()]]
            return [kind, of] if name.endswith("List") else of
        inner = self._classes[name.removesuffix("List").removesuffix("OutputReference") + "OutputReference"]
        members = ["object", {m["name"]: self._type(None, m) for m in FIELD.finditer(inner)}]
        return members if kind == "struct" else [kind, members]


def _stored(kind: str, storage: str) -> Any:
    for suffix in ("List", "Map", "Set"):
        if storage.endswith(suffix) and (plain := PLAIN.get(storage.removesuffix(suffix))):
            return "dynamic" if plain == "dynamic" else [kind, plain]
    return PLAIN[storage]


def _flags(field: re.Match[str] | None) -> str:
    """`r`equired, `o`ptional, `c`omputed. Bindings of a provider's own blocks say nothing of it: optional."""
    if field is None:
        return "o"
    return "".join(word[0] for word in ("required", "optional", "computed") if field[word] == "true")
