"""millrace submit: a file of lines becomes a batch."""

from __future__ import annotations

import shutil
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from ingest.cli import batches, upload
from ingest.cli.fault import Fault
from ingest.cli.options import Metadata, Watching, Window, pairs
from ingest.cli.session import session
from ingest.cli.terminal import Json

ENDPOINT: Final = "/v1/chat/completions"
# A line may have 4 MiB; what is longer has no url to read.
LONGEST_LINE: Final = 4 * 1024 * 1024


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(submit)


def submit(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A .jsonl file, - for stdin, or an s3:// URI.")],
    endpoint: Annotated[
        str, typer.Option(help=f"The url of its lines. (default: that of the first line; {ENDPOINT} for s3://)")
    ] = "",
    window: Window = "24h",
    metadata: Metadata = None,
    idempotency_key: Annotated[
        str, typer.Option(help="Submitting the same under the same key again gives the same batch.")
    ] = "",
    output_uri: Annotated[str, typer.Option(help="An s3:// folder of the tenant that the results go to.")] = "",
    watching: Watching = False,
    json: Json = False,
) -> None:
    """Make a batch of a file; prints its id. A large file goes up in parts."""
    given = pairs(metadata)
    client = session(ctx).client()
    order: dict[str, Any] = {"completion_window": window}
    if given is not None:
        order["metadata"] = given
    if output_uri:
        order["output_uri"] = output_uri
    if source.startswith("s3://"):
        order |= {"input_file_id": source, "endpoint": endpoint or ENDPOINT}
    else:
        with local(source) as path:
            order["endpoint"] = endpoint or first_url(path, "stdin" if source == "-" else source)
            name = "stdin.jsonl" if source == "-" else path.name
            order["input_file_id"] = upload.put(client, path, name, reuse=bool(idempotency_key))
    new = client.post("/batches", order, key=idempotency_key or str(uuid.uuid4()))
    batches.started(ctx, client, new, watching)


@contextmanager
def local(source: str) -> Iterator[Path]:
    """The input as a file on this machine, stdin as one that is gone afterwards. Raises Fault, typer.BadParameter."""
    if source != "-":
        path = Path(source)
        if not path.is_file():
            raise typer.BadParameter(f"there is no file {source!r}", param_hint="INPUT")
        yield path
        return
    # An upload says beforehand how long it is, and is read twice if a connection breaks.
    with tempfile.NamedTemporaryFile(prefix="millrace-", suffix=".jsonl") as file:
        try:
            shutil.copyfileobj(sys.stdin.buffer, file, 1024 * 1024)
            file.flush()
        except OSError as error:
            raise Fault(f"stdin cannot be kept in {tempfile.gettempdir()}: {error.strerror}") from None
        yield Path(file.name)


def first_url(path: Path, source: str) -> str:
    """The url of the first line. Raises Fault if it has none."""
    try:
        with path.open("rb") as file:
            first = file.readline(LONGEST_LINE)
    except OSError as error:
        raise Fault(f"{source} cannot be read: {error.strerror}") from None
    if not first.strip():
        raise Fault(f"{source} has no first line")
    try:
        url = orjson.loads(first)["url"]
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError):
        url = None
    if not isinstance(url, str) or not url:
        what = "is not JSON with a `url`, as in {custom_id, method, url, body}"
        raise Fault(f"the first line of {source} {what}; --endpoint sends it all the same")
    return url
