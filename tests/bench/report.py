"""What was measured, as rows with their targets: a table for people, JSON for machines. Pure but for `machine`."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

HEAD: Final = ("what", "measured", "target", "met", "how")


class Unmeasured(Exception):
    """A benchmark could not be carried out; the message is one line and says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure and what it must be. `value` is None where it could not be measured; then `note` says why."""

    what: str
    value: float | None
    unit: str = ""
    target: float | None = None
    rule: Literal["<=", ">="] = "<="
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without a target."""
        if self.target is None:
            return None
        if self.value is None:
            return False
        return self.value <= self.target if self.rule == "<=" else self.value >= self.target

    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of HEAD."""
        target = "" if self.target is None else f"{'≤' if self.rule == '<=' else '≥'} {number(self.target)} {self.unit}"
        measured = "not measured" if self.value is None else f"{number(self.value)} {self.unit}"
        met = {None: "", True: "yes", False: "no"}[self.met]
        return (self.what, measured.strip(), target.strip(), met, self.note)


@dataclass(slots=True)
class Result:
    """Rows of one benchmark, and everything else it learned. `killed` tells that it ended processes of the stack."""

    rows: list[Row] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    killed: bool = False


def number(value: float) -> str:
    """Three significant digits at least, thousands with commas."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": models[0] if models else platform.machine(), "cores": os.cpu_count() or 1}


def markdown(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def aligned(rows: Sequence[Row]) -> str:
    """The rows as a table for a terminal; the last column is not padded."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def document(at: str, about: Mapping[str, Any], results: Mapping[str, Result]) -> dict[str, Any]:
    """All of it, for a JSON file."""
    found = {
        name: {"rows": [{**asdict(row), "met": row.met} for row in result.rows], **result.details}
        for name, result in results.items()
    }
    return {"at": at, "machine": dict(about), "benchmarks": found}
