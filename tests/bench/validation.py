"""Validation of input files: in one core from memory, and of a file in S3 as the batcher does it, with its memory.

MILLRACE_BENCH_VALIDATION says how many lines the file in S3 has. A child process validates it, so that its memory is
known from its beginning to its end.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from ingest import inspection, places
from ingest.batch_document import Document, Private
from ingest.batch_object import Batch
from ingest.batch_validation import Validation
from ingest.input_lines import Chunker
from ingest.object_writer import Writer
from ingest.services import s3_client
from ingest.storage import BLOCK_BYTES, Storage
from schemas.addresses import Addresses
from tests.bench import input, memory
from tests.bench.driver import WORDS, Stack, say
from tests.bench.report import Result, Row, Unmeasured

LINES: Final = 200_000
TURNS: Final = 3
SHORT_LINES: Final = 100_000
LONG_LINES: Final = 10_000
# A prompt of about 4 kB, as lines with a document in them have.
LONG_WORDS: Final = " ".join([WORDS] * 52)
LINES_TARGET: Final = 200_000.0
BYTES_TARGET: Final = 200.0
MEMORY_TARGET: Final = 300.0
TENANT: Final = "millrace-bench"


class Speed(NamedTuple):
    """One validation."""

    lines: int
    bytes: int
    seconds: float


async def measure(stack: Stack) -> Result:
    """Both. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    short, long = from_memory(SHORT_LINES, WORDS), from_memory(LONG_LINES, LONG_WORDS)
    lines = int(os.environ.get("MILLRACE_BENCH_VALIDATION", LINES))
    storage = Storage(s3_client(stack.addresses), stack.addresses.bucket)
    batch = uuid.uuid4().hex
    place = places.file_content(TENANT, batch)
    try:
        size = upload(storage, place, lines)
        say(f"validation: {lines:,} lines of {size / 1e6:,.0f} MB in S3")
        child, samples = asyncio.run(validate(batch, lines, size))
    finally:
        storage.delete([place])
    folder = stack.addresses.home / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Validation of {lines:,} lines, {size / 1e6:,.0f} MB, from S3: resident memory of the whole process"
    (folder / "validation.svg").write_text(memory.svg(title, samples, bound=MEMORY_TARGET))
    return result(short, long, child, samples)


def from_memory(lines: int, words: str) -> Speed:
    """The fastest of a few validations of blocks that are there already."""
    blocks = cut(b"".join(input.blocks(lines, words)))
    best = min(_once(blocks, lines) for _ in range(TURNS))
    return Speed(lines, sum(map(len, blocks)), best)


def cut(data: bytes) -> list[bytes]:
    """Blocks as S3 gives them."""
    return [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]


def _once(blocks: list[bytes], lines: int) -> float:
    began = time.process_time()
    validation, chunker = Validation(input.ENDPOINT, lambda _: True), Chunker()
    for block in blocks:
        validation.add_lines(chunker.feed(block))
    validation.add(chunker.finish())
    verdict = validation.finish()
    seconds = time.process_time() - began
    if (verdict.total, verdict.faults) != (lines, ()):
        raise Unmeasured(f"validation found {verdict.total} lines and {verdict.faults[:1]}")
    return seconds


def upload(storage: Storage, place: str, lines: int) -> int:
    """Write lines to S3 as they are made; their bytes."""
    writer = Writer(storage, place)
    for block in input.blocks(lines):
        writer.write(block)
    return writer.close()


async def validate(file_id: str, lines: int, size: int) -> tuple[Speed, list[memory.Sample]]:
    """Let a process of its own validate a file in S3. Raises Unmeasured."""
    line = [sys.executable, "-m", "tests.bench.validation", file_id]
    process = await asyncio.create_subprocess_exec(*line, stdout=asyncio.subprocess.PIPE)
    with memory.Sampler(lambda: {"validation": process.pid}) as sampler:
        out, _ = await process.communicate()
    if process.returncode != 0:
        raise Unmeasured(f"validation ended with {process.returncode}")
    told: dict[str, Any] = json.loads(out)
    if (told["total"], told["faults"]) != (lines, 0):
        raise Unmeasured(f"validation found {told}")
    samples = [*sampler.samples, memory.Sample(round(sampler.at_s, 1), {"validation": told["peak_mib"]})]
    return Speed(lines, size, told["seconds"]), samples


def result(short: Speed, long: Speed, child: Speed, samples: list[memory.Sample]) -> Result:
    """The rows."""
    each = child.bytes / child.lines
    note = f"{each:.0f} bytes a line, {child.bytes / 1e6 / child.seconds:.0f} MB/s, from S3 on the same machine"
    peak = max(sample.mib.get("validation", 0.0) for sample in samples)
    rows = [
        Row(
            f"validation in one core, lines of {short.bytes // short.lines} bytes",
            short.lines / short.seconds,
            "/s",
            LINES_TARGET,
            ">=",
            f"{short.bytes / 1e6 / short.seconds:.0f} MB/s",
        ),
        Row(
            f"validation in one core, lines of {long.bytes // long.lines} bytes",
            long.bytes / 1e6 / long.seconds,
            "MB/s",
            BYTES_TARGET,
            ">=",
            f"{long.lines / long.seconds:,.0f} lines/s",
        ),
        Row(f"validation of {child.lines:,} lines in S3", child.lines / child.seconds, "/s", None, ">=", note),
        Row(
            f"memory of validating {child.lines:,} lines", peak, "MiB", MEMORY_TARGET, note="peak of the whole process"
        ),
    ]
    return Result(rows, {"samples": [sample._asdict() for sample in samples]})


def main() -> None:
    """The child: validate the file that is named, tell of it as JSON."""
    addresses = Addresses.of(os.environ)
    storage = Storage(s3_client(addresses), addresses.bucket)
    batch = Batch("batch_bench", input.ENDPOINT, sys.argv[1], "24h", 0, 0)
    began = time.monotonic()
    document = Document(batch, Private(TENANT, "bench", 0, 0))
    verdict = inspection.validate(storage, document, lambda _: True, threading.Event())
    seconds = time.monotonic() - began
    peak = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
    told = {"total": verdict.total, "faults": len(verdict.faults), "seconds": seconds}
    told["peak_mib"] = int(peak.split()[1]) / 1024
    sys.stdout.write(msgspec.json.encode(told).decode())


if __name__ == "__main__":
    main()
