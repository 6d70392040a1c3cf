"""A large batch on the zero-delay engine, from creation to completion, as a share of admission's rate in the same run.

MILLRACE_MILLION_LINES says how many lines it has, MILLRACE_MILLION_KILLS=1 kills a batcher, a TaskManager and a worker
on the way. Every line must be in the output once, in order, and every usage row in the Parquet files. `make million` is
the whole of it, with a million lines and its plot of memory put into docs/.
"""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, cast

import msgspec
from openai import OpenAI

from tests.bench import admission, input, memory, meter
from tests.bench.driver import Stack, say
from tests.bench.report import Result, Row, Unmeasured

LINES: Final = 20_000
SHARE_TARGET: Final = 0.8
MEMORY_TARGET: Final = 300.0
# What the end may take: ten seconds, and a checkpoint of the batcher.
END_TARGET: Final = 11.0
# Below this the batch is taken to be stuck; with nothing done at all for STUCK_S it is.
SLOWEST: Final = 200
STUCK_S: Final = 180.0
BACK_S: Final = 60.0
SHOWN_S: Final = 240.0
POLL_S: Final = 0.25
# How often progress is told where nobody looks at a terminal.
TOLD_S: Final = 15.0
VICTIMS: Final = ("batcher", "taskmanager", "worker-1")
WATCHED: Final = ("gateway", "batcher")
ENDED: Final = frozenset({"completed", "failed", "expired", "cancelled"})


def lines() -> int:
    """How many are asked for."""
    return int(os.environ.get("MILLRACE_MILLION_LINES", LINES))


def limit_s() -> float:
    """When the benchmark is given up."""
    return 900.0 + lines() / SLOWEST


async def measure(stack: Stack) -> Result:
    """All of it. Raises Unmeasured."""
    return await asyncio.to_thread(drive, stack)


def drive(stack: Stack) -> Result:
    """The same, without an event loop."""
    count, kills = lines(), VICTIMS if os.environ.get("MILLRACE_MILLION_KILLS") == "1" else ()
    alone = admission.drive(stack)
    # The demo's tenants may not send so much in a minute; the operator's own has no limits.
    key = os.environ.get("MILLRACE_BENCH_KEY", "mr-admin-demo")
    client = OpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=5, timeout=600)
    with memory.Sampler(lambda: {name: pid(stack, name) for name in WATCHED}) as sampler:
        course = Course(stack, client, sampler)
        course.run(count, kills)
        course.check()
    course.rows()
    title = f"{count:,} lines of a batch on echo: resident memory"
    plot = Path(os.environ.get("MILLRACE_MILLION_PLOT") or stack.addresses.home / "bench" / "million.svg")
    plot.parent.mkdir(parents=True, exist_ok=True)
    plot.write_text(memory.svg(title, sampler.samples, course.marks, MEMORY_TARGET))
    return result(course, alone.rows[0].value or 0.0, sum(alone.details["cpu_seconds"].values()), sampler)


def pid(stack: Stack, service: str) -> int:
    """The working process of a service; 0 while there is none."""
    try:
        return int((stack.addresses.home / "run" / f"{service}.pid").read_text())
    except (OSError, ValueError):
        return 0


class Course:
    """One batch from its upload to its end, with what was seen on the way."""

    def __init__(self, stack: Stack, client: OpenAI, sampler: memory.Sampler) -> None:
        self._stack = stack
        self._client = client
        self._sampler = sampler
        self.marks: list[tuple[float, str]] = []
        self.batch: Any = None
        self.count = 0
        self.bytes = 0
        self.seconds = 0.0
        self.upload_s = 0.0
        self.end_s = 0.0
        self.used: dict[str, float] = {}

    def _mark(self, text: str) -> None:
        self.marks.append((round(self._sampler.at_s, 1), text))
        say(f"million: {text}")

    def run(self, count: int, kills: tuple[str, ...]) -> None:
        """Upload, create, and wait for the end, striking on the way. Raises Unmeasured."""
        self.count = count
        began = time.monotonic()
        data = input.File(count)
        # httpx sends what iterates in chunks; the SDK takes it for a file by its `read`.
        file = self._client.files.create(file=("million.jsonl", cast(Any, data)), purpose="batch")
        self.bytes, self.upload_s = file.bytes, time.monotonic() - began
        self._mark("created")
        before = meter.sample(self._stack)
        began = told = time.monotonic()
        batch = self._client.batches.create(
            input_file_id=file.id,
            endpoint=input.ENDPOINT,  # type: ignore[arg-type]
            completion_window="24h",
        )
        left = [(count * (i + 1) // (len(kills) + 1), victim) for i, victim in enumerate(kills)]
        answered = moved = began
        done = 0
        while batch.status not in ENDED:
            time.sleep(POLL_S)
            batch = self._client.batches.retrieve(batch.id)
            counts = batch.request_counts
            now, ahead = time.monotonic(), counts.completed + counts.failed if counts else 0
            if ahead > done:
                done, moved = ahead, now
            if done < count:
                answered = now
            if now - moved > STUCK_S and batch.status in ("validating", "in_progress"):
                self._client.batches.cancel(batch.id)
                raise Unmeasured(f"{batch.id} is stuck at {done:,} of {count:,} lines")
            if left and done >= left[0][0]:
                self._strike(left.pop(0)[1], batch)
            say(f"million: {done:,} of {count:,}, {batch.status}", passing=now - told < TOLD_S)
            told = now if now - told >= TOLD_S else told
        if left or batch.status != "completed":
            raise Unmeasured(f"{batch.id} is {batch.status} with {left} still to be killed: {batch.errors}")
        self.batch, self.seconds, self.end_s = batch, time.monotonic() - began, time.monotonic() - answered
        self._mark("completed")
        if not kills:  # what a process had used that was killed is not known any more
            self.used = meter.spent(before, meter.sample(self._stack)).services

    def _strike(self, victim: str, batch: Any) -> None:
        """Kill one, with lines in flight, and wait for the next. Raises Unmeasured."""
        open_lines, old = (batch.millrace or {}).get("open_lines", 0), pid(self._stack, victim)
        if batch.status != "in_progress" or not open_lines or not old:
            raise Unmeasured(f"{batch.id} is {batch.status} with {open_lines} lines in flight, {victim} is {old}")
        os.kill(old, signal.SIGKILL)
        self._mark(f"{victim} killed with {open_lines:,} lines in flight")
        until = time.monotonic() + BACK_S
        while pid(self._stack, victim) in (0, old):
            if time.monotonic() > until:
                raise Unmeasured(f"{victim} was not back within {BACK_S:.0f} s")
            time.sleep(POLL_S)

    def check(self) -> None:
        """Every line must be in the output once, in order. Raises Unmeasured."""
        if self.batch.error_file_id or self.batch.request_counts.completed != self.count:
            raise Unmeasured(f"{self.batch.id} has {self.batch.request_counts}, errors in {self.batch.error_file_id}")
        number = 0
        for number, line in enumerate(self._output(), 1):
            said = line.response.body.choices[0].message.content
            if line.custom_id != f"{number:09d}" or not said.endswith(f" {number}"):
                raise Unmeasured(f"line {number} of the output is {line.custom_id}: {said}")
        if number != self.count:
            raise Unmeasured(f"the output has {number:,} lines of {self.count:,}")
        self._mark("output read")

    def _output(self) -> Iterator[Line]:
        decoder = msgspec.json.Decoder(Line)
        with self._client.files.with_streaming_response.content(self.batch.output_file_id) as response:
            rest = b""
            for block in response.iter_bytes(1 << 20):
                *whole, rest = (rest + block).split(b"\n")
                yield from map(decoder.decode, whole)
        if rest:
            yield decoder.decode(rest)

    def rows(self) -> None:
        """The lake must have a usage row for each line, once, with the batch's own tokens. Raises Unmeasured."""
        usage = self.batch.usage
        expected = [str(n) for n in (self.count, self.count, usage.input_tokens, usage.output_tokens)]
        query = (
            "select count(*), count(distinct request_id), sum(input_tokens), sum(output_tokens) from usage "
            f"where batch_id = '{self.batch.id}' and status = 'completed'"
        )
        until, found = time.monotonic() + SHOWN_S, [""]
        while found != expected:
            if time.monotonic() > until:
                raise Unmeasured(f"the usage rows of {self.batch.id} are {found}, not {expected}")
            line = [sys.executable, "-m", "streams.lake_sql"]
            done = subprocess.run(line, env={**os.environ, "Q": query}, capture_output=True, text=True, check=False)
            found = list(csv.reader(io.StringIO(done.stdout)))[-1] if done.returncode == 0 else [done.stderr]
            time.sleep(POLL_S)


class Message(msgspec.Struct):
    """Part of Line."""

    content: str


class Choice(msgspec.Struct):
    """Part of Line."""

    message: Message


class Body(msgspec.Struct):
    """Part of Line."""

    choices: list[Choice]


class Response(msgspec.Struct):
    """Part of Line."""

    status_code: int
    body: Body


class Line(msgspec.Struct):
    """What is looked at in a line of the output."""

    custom_id: str
    response: Response


def result(course: Course, alone: float, alone_s: float, sampler: memory.Sampler) -> Result:
    """The rows; admission did `alone` requests a second by itself, and the stack took `alone_s` of CPU for them."""
    rate = course.count / course.seconds
    what = f"a batch of {course.count:,} lines on echo"
    kills = ", ".join(text for _, text in course.marks if "killed" in text) or "no kills"
    each_ms = sum(course.used.values()) * 1e3 / course.count
    alone_ms = alone_s * 1e3 / admission.REQUESTS
    cpu = f"CPU of the whole stack {each_ms:.2f} ms a line, {alone_ms:.2f} ms a request alone; " if course.used else ""
    note = (
        f"{rate:,.0f} lines/s from creation to completed, admission alone {alone:,.0f}/s; "
        f"{course.bytes / 1e6:,.0f} MB uploaded in {course.upload_s:.1f} s; {kills}; "
        f"{cpu}output in order and usage rows compared, all there once"
    )
    rows = [
        Row(f"{what}, share of admission's own rate", rate / alone, "", SHARE_TARGET, ">=", note),
        Row(f"{what}, from the last answer to completed", course.end_s, "s", END_TARGET),
    ]
    for name in WATCHED:
        peak = sampler.peak(name)
        rows.append(Row(f"{what}, memory of the {name}", peak, "MiB", MEMORY_TARGET, note="peak, upload to download"))
    samples = [sample._asdict() for sample in sampler.samples]
    details: dict[str, Any] = {"samples": samples, "marks": course.marks, "lines_per_s": round(rate, 1)}
    details["cpu_us_a_line"] = {name: round(s * 1e6 / course.count) for name, s in course.used.items()}
    return Result(rows, details, any("killed" in text for _, text in course.marks))
