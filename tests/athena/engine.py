"""A Trino server on the loopback interface, over one S3, with a metastore of files; and questions to it."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any, Final

import httpx

from tests.athena.install import HIVE, NEWER, SERVER

# As Athena calls it.
CATALOG: Final = "awsdatacatalog"
START_S: Final = 180
QUERY_S: Final = 120
CONFIG: Final = """\
coordinator=true
node-scheduler.include-coordinator=true
http-server.http.port={port}
discovery.uri=http://127.0.0.1:{port}
plugin.dir={folder}/plugin
catalog.config-dir={folder}/catalog
query.max-memory-per-node=384MB
"""
HIVE_CATALOG: Final = """\
connector.name=hive
hive.metastore=file
hive.metastore.catalog.dir=local:///metastore
fs.native-local.enabled=true
local.location={folder}
fs.native-s3.enabled=true
s3.endpoint={endpoint}
s3.region=us-east-1
s3.path-style-access=true
s3.aws-access-key={key}
s3.aws-secret-key={secret}
hive.partition-projection-enabled=true
"""
NODE: Final = (
    "-Dnode.environment=test",
    "-Dnode.id=test",
    "-Dnode.bind-ip=127.0.0.1",
    "-Dnode.internal-address=127.0.0.1",
)


class Refused(Exception):
    """A statement that Trino did not carry out, with what it says about it."""


class Trino:
    """A server for the length of a `with`, which is entered when it answers. `s3` is the environment of a process."""

    def __init__(self, folder: Path, port: int, s3: dict[str, str]) -> None:
        self._folder, self._port = folder, port
        self.url = f"http://127.0.0.1:{port}"
        for name in ("catalog", "plugin", "metastore"):
            (folder / name).mkdir(parents=True)
        (folder / "plugin" / "hive").symlink_to(HIVE)
        (folder / "config.properties").write_text(CONFIG.format(port=port, folder=folder))
        keys = {"key": s3["MILLRACE_S3_ACCESS_KEY"], "secret": s3["MILLRACE_S3_SECRET_KEY"]}
        catalog = HIVE_CATALOG.format(folder=folder, endpoint=s3["MILLRACE_S3"], **keys)
        (folder / "catalog" / f"{CATALOG}.properties").write_text(catalog)

    def __enter__(self) -> Trino:
        java = [str(NEWER / "bin" / "java"), "-Xmx1G", "-XX:+UseG1GC", "-XX:+ExitOnOutOfMemoryError"]
        allow = ["-Djdk.attach.allowAttachSelf=true", "--sun-misc-unsafe-memory-access=allow"]
        # Queries are few and small: the optimising compiler would cost more than it gives.
        quick = ["-XX:TieredStopAtLevel=1", "--enable-native-access=ALL-UNNAMED"]
        place = [f"-Dnode.data-dir={self._folder}", f"-Dconfig={self._folder}/config.properties"]
        command = [*java, *allow, *quick, *NODE, *place, "-cp", f"{SERVER}/lib/*", "io.trino.server.TrinoServer"]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(command, cwd=self._folder, stdout=log, stderr=log)
        try:
            self._await()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _await(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            assert self._process.poll() is None, f"Trino ended: see {self._folder}/server.log"
            try:
                if httpx.get(f"{self.url}/v1/info").json().get("starting") is False:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"Trino did not start within {START_S} s: see {self._folder}/server.log")

    def ask(self, sql: str, schema: str = "millrace") -> tuple[list[str], list[tuple[Any, ...]]]:
        """Names of the columns, and the rows with values as JSON has them. Raises Refused."""
        headers = {"X-Trino-User": "test", "X-Trino-Catalog": CATALOG, "X-Trino-Schema": schema}
        page = httpx.post(f"{self.url}/v1/statement", content=sql, headers=headers, timeout=QUERY_S).json()
        names: list[str] = []
        rows: list[tuple[Any, ...]] = []
        while True:
            if "error" in page:
                raise Refused(f"{page['error']['errorName']}: {page['error']['message']}")
            names = [column["name"] for column in page.get("columns", [])] or names
            rows += [tuple(row) for row in page.get("data", [])]
            if "nextUri" not in page:
                return names, rows
            page = httpx.get(page["nextUri"], headers=headers, timeout=QUERY_S).json()
