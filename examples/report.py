"""What the demo prints when its run is over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from openai.types import Batch
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.calls import Call
from examples.tickets import Answer

FIRST: Final = 6
CUT: Final = 76


def short(text: str, length: int = CUT) -> str:
    """The text on one line, cut to `length` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1] + "…"


def abridged(answers: Sequence[Answer]) -> list[Answer]:
    """The first few, and all that did not simply complete."""
    return [a for i, a in enumerate(answers) if i < FIRST or a.status != "completed"]


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def batch(console: Console, ended: Batch, output: Sequence[Answer], errors: Sequence[Answer]) -> None:
    """The result file and the error file of a batch."""
    for name, file_id, answers in (("output", ended.output_file_id, output), ("error", ended.error_file_id, errors)):
        table = _table(f"{name} file {file_id} ({len(answers)} lines)", "custom_id", "status", "answer")
        shown = abridged(answers)
        for a in shown:
            table.add_row(a.custom_id, a.status, Text(short(a.text)))
        if len(shown) < len(answers):
            table.add_row("…", "", f"and {len(answers) - len(shown)} more that completed")
        console.print(table)


def calls(console: Console, answered: Sequence[Call]) -> None:
    """The real-time calls."""
    table = _table("real-time calls beside it", "tenant", "model", "cache", "ms", "answer")
    for i, call in enumerate(answered):
        ms = f"{call.after_ms}" + (" to first token" if i == 0 else "")
        table.add_row(call.tenant, call.model, call.cache, ms, Text(short(call.text, 60)))
    console.print(table)


def usage(console: Console, rows: Sequence[Mapping[str, str]]) -> None:
    """The table by tenant and model, from the Parquet files."""
    numbers = ("requests", "input_tokens", "output_tokens")
    table = _table("usage of this run, read from the Parquet files by DuckDB")
    for name in ("tenant", "model", "lane", "status", "cache"):
        table.add_column(name, overflow="fold")
    for name in (*numbers, "cost"):
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    for row in rows:
        words = [row[name] for name in ("tenant", "model", "lane", "status", "cache", *numbers)]
        table.add_row(*words, money(int(row["cost_micros"])))
    sums = [str(sum(int(row[name]) for row in rows)) for name in numbers]
    table.add_section()
    table.add_row("all", "", "", "", "", *sums, money(sum(int(row["cost_micros"]) for row in rows)))
    console.print(table)


def money(micros: int) -> str:
    """Millionths of a currency unit as units."""
    return f"{micros // 1_000_000}.{micros % 1_000_000:06}"


def ending(console: Console, facts: Mapping[str, int], batch_id: str) -> None:
    """What was proven, and what to do next."""
    console.print(
        f"{facts['lines']} lines, each with one usage row and one response; {facts['shared']} answered by an "
        f"identical one, {facts['blocked']} blocked, {facts['refused']} refused, {facts['masks']} masked; "
        f"{facts['tokens']} tokens in the rows as in the batch object.",
        highlight=False,
    )
    if facts["shared"] == facts["completed"]:
        console.print("All of it was answered from the cache, which remembers an answer for an hour.", highlight=False)
    console.print("\nThe stack stays up. What to do next:", highlight=False)
    for command in (
        f"""make sql Q="SELECT custom_id, status, body FROM responses WHERE batch_id = '{batch_id}'\"""",
        'make -s sql Q="$(cat streams/views/invoice.sql)"',
        '.venv/bin/python examples/chat.py "Why is the sky blue?"',
        "make status        make logs S=gateway        make apply CONFIG=config",
        "make down          stops it; its state stays",
    ):
        console.print("  " + command, markup=False, highlight=False, soft_wrap=True)
