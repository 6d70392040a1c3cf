"""Which files of a partition are its rows: the object that says so, and how it is read. Pure.

The lake's job adds small files to a partition while it is open; each is whole once it is visible. A complete partition
is written anew into few large ones. From the first moment on that its manifest is there, exactly the files it names are
the partition's rows, and no other; so at no moment does a reader of manifests see a row twice or not at all.

Engines that only list a folder (Athena, Snowflake) skip names that begin with an underscore: they see the small files,
then for a moment too few, then the large ones. `_SUCCESS` is there before and after, and never in between.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

NAME: Final = "_MANIFEST"
SUCCESS: Final = "_SUCCESS"
# A file that the lake's job has finished. s3proxy writes it under a longer name first, and S3 shows nothing of an
# unfinished upload.
_PART: Final = re.compile(r"part-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}-\d+-\d+")


class File(msgspec.Struct, frozen=True):
    """A file of a complete partition."""

    name: str
    rows: int
    bytes: int


class Manifest(msgspec.Struct, frozen=True):
    """`files` are the partition. While `staged`, they have an underscore before their names, so that no listing shows
    them; `replaces` are the names that have to go before they get their own.
    """

    token: str
    files: tuple[File, ...]
    replaces: tuple[str, ...]
    staged: bool

    @property
    def rows(self) -> int:
        """Rows of the partition."""
        return sum(file.rows for file in self.files)

    def names(self) -> list[str]:
        """The names under which the files are to be read now."""
        return [staged(file.name) if self.staged else file.name for file in self.files]


def staged(name: str) -> str:
    """What a file is called before its place is free."""
    return f"_{name}"


def file_name(token: str, number: int) -> str:
    """The name of the file of this number, from 1, made by the attempt `token`."""
    return f"rows-{token}-{number:05d}.parquet"


def is_part(name: str) -> bool:
    """Whether a name is that of a file which the lake's job has finished, by its form alone."""
    return _PART.fullmatch(name) is not None


def is_staged(name: str) -> bool:
    """Whether a name is that of a staged file, of whichever attempt."""
    return name.startswith("_rows-")


def readable(listed: Iterable[str], found: Manifest | None) -> list[str]:
    """The names in a folder that are its rows. `found` must have been looked for after `listed` was listed."""
    return found.names() if found is not None else sorted(name for name in listed if is_part(name))


def decode(data: bytes) -> Manifest:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(data, type=Manifest)


def encode(manifest: Manifest) -> bytes:
    """As it is stored."""
    return msgspec.json.encode(manifest)
