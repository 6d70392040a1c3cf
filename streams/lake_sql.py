"""`make sql`: runs the query in the environment variable Q over the lake with DuckDB, prints CSV. Works offline.

With a tenant in T the query sees that tenant's rows and nothing else.
"""

from __future__ import annotations

import csv
import json
import os
import sys
import sysconfig
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TextIO
from urllib.parse import urlsplit

import duckdb

from schemas.addresses import Addresses
from streams import lake, lake_access, lake_files

ROWS: Final = 10_000
TRIES: Final = 3
VIEWS: Final = Path(__file__).parent / "views"
# The wheel carries the extension for its own DuckDB version; nothing is ever downloaded.
HTTPFS: Final = f"duckdb_extension_httpfs/extensions/v{duckdb.__version__}/httpfs.duckdb_extension"


def _use_s3(db: duckdb.DuckDBPyConnection, addresses: Addresses) -> None:
    url = urlsplit(addresses.s3)
    options = {
        "KEY_ID": addresses.s3_access_key,
        "SECRET": addresses.s3_secret_key,
        "ENDPOINT": url.netloc,
        "URL_STYLE": "path",
        "USE_SSL": str(url.scheme == "https").lower(),
        "REGION": os.environ.get("AWS_REGION", "us-east-1"),
    }
    db.execute(f"LOAD {lake.quote(str(Path(sysconfig.get_path('purelib')) / HTTPFS))}")
    db.execute(f"CREATE SECRET (TYPE s3, {', '.join(f'{k} {lake.quote(v)}' for k, v in options.items())})")


def connect(addresses: Addresses, tenant: str = "") -> duckdb.DuckDBPyConnection:
    """A database in memory with a view for each table of the lake, as it is now, and for each query in VIEWS.

    Of a `tenant` only its own rows are shown. Raises duckdb.Error without S3.
    """
    db = bare(addresses)
    for table in lake.TABLES:
        db.execute(lake.view(table, lake_files.find(db, addresses, table.name), tenant=tenant))
    for path in sorted(VIEWS.glob("*.sql")):
        db.execute(f'CREATE VIEW "{path.stem}" AS {path.read_text()}')
    return db


def bare(addresses: Addresses) -> duckdb.DuckDBPyConnection:
    """A database in memory that can read the lake's files, without a view. Raises duckdb.Error."""
    db = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    db.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false; SET python_enable_replacements = false")
    if not lake_files.local(addresses):
        _use_s3(db, addresses)
    return db


def ask(addresses: Addresses, query: str, tenant: str = "") -> duckdb.DuckDBPyConnection:
    """The result of a query. A file that was replaced since it was listed is no fault: then all is listed anew."""
    for _ in range(TRIES - 1):
        try:
            return connect(addresses, tenant).execute(query)
        except (duckdb.IOException, duckdb.HTTPException) as error:
            if "part-" not in str(error) and "rows-" not in str(error):
                raise
    return connect(addresses, tenant).execute(query)


def text(value: Any) -> str:
    """A value as a cell: times as `YYYY-MM-DD HH:MM:SS.mmm`, bytes as UTF-8, nested values as JSON, NULL as nothing."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case datetime():
            return value.replace(tzinfo=None).isoformat(" ", "milliseconds")
        case bytes():
            return value.decode("utf-8", "backslashreplace")
        case dict() | list() | tuple():
            return json.dumps(value, default=str, ensure_ascii=False)
        case _:
            return str(value)


def write(result: duckdb.DuckDBPyConnection, out: TextIO) -> None:
    """Print a result as CSV with a header, in pieces of ROWS."""
    plain = csv.writer(out, lineterminator="\n")
    # A carriage return ends a line for many readers, but Python quotes only what the writer itself ends lines with.
    quoting = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)
    plain.writerow([column[0] for column in result.description or ()])
    while rows := result.fetchmany(ROWS):
        for row in rows:
            cells = [text(v) for v in row]
            (quoting if any("\r" in cell for cell in cells) else plain).writerow(cells)


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0, or 1 after one line about what is wrong with the query."""
    query = environ.get("Q", "")
    if not query.strip():
        print('make sql: say what to ask, such as make -s sql Q="SELECT * FROM usage LIMIT 5"', file=sys.stderr)
        return 1
    addresses, tenant = Addresses.of(environ), environ.get("T", "")
    try:
        if tenant:
            lake_access.check(query)
        write(ask(addresses, query, tenant), sys.stdout)
        sys.stdout.flush()
    except lake_access.Refused as error:
        print(f"make sql: {error}", file=sys.stderr)
        return 1
    except duckdb.Error as error:
        print(f"make sql: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (such as `head`) has seen enough; the interpreter must not flush into its closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
