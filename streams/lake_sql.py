"""`make sql`: runs the query in the environment variable Q over the lake with DuckDB, prints CSV. Works offline."""

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
from streams import lake

ROWS: Final = 10_000
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


def _files(db: duckdb.DuckDBPyConnection, addresses: Addresses, table: str) -> list[str]:
    """Finished files of a table. A local S3 keeps objects as files: reading those is twenty times as fast as HTTP."""
    folder = addresses.home / "s3" / addresses.bucket
    if folder.is_dir():
        found = [str(p) for p in folder.glob(f"{table}/dt=*/hour=*/part-*")]
    else:
        pattern = f"s3://{addresses.bucket}/{table}/dt=*/hour=*/part-*"
        found = [row[0] for row in db.execute("SELECT file FROM glob($1)", [pattern]).fetchall()]
    return sorted(f for f in found if lake.is_committed(f))


def connect(addresses: Addresses) -> duckdb.DuckDBPyConnection:
    """A database in memory with a view for each table of the lake, as it is now. Raises duckdb.Error without S3."""
    db = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
    db.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
    if not (addresses.home / "s3" / addresses.bucket).is_dir():
        _use_s3(db, addresses)
    for table in lake.TABLES:
        db.execute(lake.view(table, _files(db, addresses, table.name)))
    return db


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
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column[0] for column in result.description or ()])
    while rows := result.fetchmany(ROWS):
        writer.writerows([text(v) for v in row] for row in rows)


def main(environ: Mapping[str, str] = os.environ) -> int:
    """Exit status: 0, or 1 after one line about what is wrong with the query."""
    query = environ.get("Q", "")
    if not query.strip():
        print('make sql: say what to ask, such as make -s sql Q="SELECT * FROM usage LIMIT 5"', file=sys.stderr)
        return 1
    try:
        write(connect(Addresses.of(environ)).execute(query), sys.stdout)
        sys.stdout.flush()
    except duckdb.Error as error:
        print(f"make sql: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader (such as `head`) has seen enough; the interpreter must not flush into its closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
