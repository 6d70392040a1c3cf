"""Numbers as people read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

MICROS: Final = 1_000_000


def count(value: float) -> str:
    """1234567 as 1,234,567; with one decimal below ten, unless it is whole."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def size(value: float) -> str:
    """Bytes, in the unit that keeps the number short."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def span(seconds: float) -> str:
    """A duration in its two largest units."""
    whole = max(0, round(seconds))
    for unit, length, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            rest = whole % length // part
            return f"{whole // length}{unit} {rest}{below}" if rest else f"{whole // length}{unit}"
    return f"{whole}s"


def money(micros: int) -> str:
    """Micro-units as units; what is less than a hundredth keeps all its digits."""
    units = micros / MICROS
    return f"{units:,.2f}" if abs(units) >= 10 or not micros else f"{units:.6f}".rstrip("0").rstrip(".")


def moment(unix_s: int | None) -> str:
    """A moment in the time zone of whoever reads, - where there is none."""
    return datetime.fromtimestamp(unix_s, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S") if unix_s else "-"
