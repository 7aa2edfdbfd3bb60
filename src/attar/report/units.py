"""Figures in units that people read."""

import math
from collections.abc import Sequence


def count(value: float) -> str:
    """`1234567` as `1.23 M`."""
    return _scaled(value, 1000.0, ("", " k", " M", " G", " T"))


def size(value: float) -> str:
    """Bytes as `1.9 MB` (decimal units, as budgets use)."""
    return _scaled(value, 1000.0, (" B", " kB", " MB", " GB", " TB"))


def milliseconds(value: float) -> str:
    """`12.3 ms`."""
    return f"{digits(value)} ms" if value < 10_000 else f"{digits(value / 1000)} s"


def duration(seconds: float) -> str:
    """Wall time as `42 s`, `3 min 5 s` or `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{digits(seconds)} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _scaled(value: float, base: float, units: Sequence[str]) -> str:
    if not math.isfinite(value):
        return str(value)
    step = 0
    while step < len(units) - 1 and float(f"{abs(value):.3g}") >= base:
        value, step = value / base, step + 1
    return digits(value) + units[step]


def digits(value: float) -> str:
    """Three significant digits, without an exponent or empty decimals for whole numbers."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    value = float(f"{value:.3g}")
    if value == int(value):
        return f"{value:.0f}"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.{2 - math.floor(math.log10(abs(value)))}f}"


def fixed(value: float) -> str:
    """Three decimals, for losses and perplexities."""
    return f"{value:.3f}" if abs(value) < 1000 else digits(value)


def amount(key: str, value: float) -> str:
    """A budget's figure in the unit of its constraint."""
    if "bytes" in key:
        return size(value)
    return milliseconds(value) if key in ("latency", "prefill", "decode") else count(value)
