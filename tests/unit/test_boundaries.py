"""The house: who may import whom. Read from the imports themselves."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = ("schemas", "ingest", "streams", "workers", "infra")
# What touches the outside. A pure module imports none of these.
ENGINES = {
    "boto3", "botocore", "confluent_kafka", "duckdb", "fastapi", "faust", "granian", "httpx", "pyflink", "redis",
    "socket", "starlette", "subprocess", "uvicorn", "xllamacpp", "time", "random", "asyncio", "threading", "os",
}  # fmt: skip
# Modules that packages other than their own may import.
PURE = {
    "streams.admission", "streams.body", "streams.canary", "streams.circuit", "streams.closing",
    "streams.credentials", "streams.deliveries", "streams.delivery_queue", "streams.detectors", "streams.emission",
    "streams.entry", "streams.folding", "streams.guard", "streams.judging", "streams.lake", "streams.ledger",
    "streams.lookalikes", "streams.manifest", "streams.memory", "streams.moderation", "streams.partition",
    "streams.patterns", "streams.phrases", "streams.planner", "streams.policy", "streams.progress",
    "streams.responses", "streams.stage", "streams.state", "streams.steering", "streams.subject", "streams.tally",
    "streams.verdict", "streams.webhook_signing", "streams.windows",
}  # fmt: skip


def imports(path: Path) -> set[str]:
    """Names a module imports, `from a import b` giving both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{a.name}" for a in node.names}
    return found


def modules() -> dict[str, Path]:
    files = (p for package in OURS for p in (ROOT / package).rglob("*.py"))
    return {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): p for p in files}


MODULES = modules()


@pytest.mark.parametrize("name", sorted(PURE))
def test_a_pure_module_has_no_engine_clock_or_chance(name):
    roots = {i.partition(".")[0] for i in imports(MODULES[name])}
    assert not roots & ENGINES


@pytest.mark.parametrize("name", sorted(m for m in MODULES if m.startswith("schemas")))
def test_schemas_imports_nothing_of_ours(name):
    assert not {i for i in imports(MODULES[name]) if i.partition(".")[0] in OURS[1:]}


@pytest.mark.parametrize("name", sorted(MODULES))
def test_an_adapter_is_imported_only_inside_its_package(name):
    package = name.partition(".")[0]
    for imported in imports(MODULES[name]) & set(MODULES):
        other = imported.partition(".")[0]
        if other not in (package, "schemas") and imported not in OURS:
            assert imported in PURE, f"{name} imports {imported}, an adapter of another package"


def test_no_module_is_named_like_a_standard_one_that_a_script_beside_it_would_shadow():
    import sys

    scripts = {p.stem for p in (ROOT / "streams").glob("*.py")}
    assert not scripts & set(sys.stdlib_module_names)


def test_files_stay_small():
    long = {n: k for n, p in MODULES.items() if (k := len(p.read_text().splitlines())) > 300 and n != "schemas.records"}
    assert not long
