"""What was measured of codecs, as tables: one row a codec, and bits at equal quality."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from attar.codec.drawings import Curve
from attar.evaluation.rates import RatePoint, bd_rate, front
from attar.report.figures import NONE
from attar.report.tables import Table
from attar.report.units import count, fixed

Score = tuple[str, Callable[[float], str]]
Role = Literal["result", "baseline"]


def _two(value: float) -> str:
    return f"{value:.2f}"


#: scores with a heading and digits of their own
_SCORES: Mapping[str, Score] = {
    "psnr": ("PSNR (dB)", _two),
    "ms_ssim": ("MS-SSIM", lambda value: f"{value:.4f}"),
    "snr": ("SNR (dB)", _two),
    "si_sdr": ("SI-SDR (dB)", _two),
    "ssdr": ("SSDR (dB)", _two),
    "srdr": ("SRDR (dB)", _two),
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One codec at one setting, means over the items that were measured.

    Attributes:
        name: of the codec and its setting.
        role: `result` of the page, or a `baseline`.
        rate: bits per pixel, or per sample of one channel.
        ratio: by how much there are fewer numbers than pixels or samples times channels.
        scores: fidelity by name.
        encode: pixels, or samples of all channels, a second.
        decode: likewise.
    """

    name: str
    role: Role = "baseline"
    rate: float | None = None
    ratio: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    encode: float | None = None
    decode: float | None = None


def measured_table(measured: Sequence[Measured], *, unit: str) -> Table:
    """One row a codec, results first, without columns that no row can fill. `records` holds the
    numbers.

    Args:
        measured: the codecs.
        unit: `pixel` or `sample`.
    """
    rows = sorted(measured, key=lambda row: row.role != "result")
    mega = f"M{unit}s/s"
    cells: dict[str, list[str]] = {
        "": [("  vs " if row.role == "baseline" else "") + row.name for row in rows],
        f"bits per {unit}": [cell(row.rate, fixed) for row in rows],
        "dimension ratio": [cell(row.ratio, lambda value: f"{value:.3g}x") for row in rows],
    }
    for name in dict.fromkeys(name for row in rows for name in row.scores):
        heading, show = score_of(name)
        cells[heading] = [cell(row.scores.get(name), show) for row in rows]
    cells[f"encode {mega}"] = [cell(row.encode, _millions) for row in rows]
    cells[f"decode {mega}"] = [cell(row.decode, _millions) for row in rows]
    kept = {head: column for head, column in cells.items() if not head or set(column) != {NONE}}
    records = [
        {"name": row.name, "role": row.role, "rate": row.rate, "ratio": row.ratio, **row.scores}
        | {"encode": row.encode, "decode": row.decode}
        for row in rows
    ]
    return Table(list(kept), [list(row) for row in zip(*kept.values(), strict=True)], records)


def savings_table(curves: Sequence[Curve], *, quality: str) -> Table:
    """How many more or fewer bits each result takes than each baseline at equal quality (BD-rate);
    of pairs whose curves share no range of quality nothing is said.
    """
    heading, _ = score_of(quality)
    rows, records = [], []
    for own in (curve for curve in curves if curve.role == "result"):
        for other in (curve for curve in curves if curve.role == "baseline"):
            if min(len(front(finite(own))), len(front(finite(other)))) < 2:
                continue
            share = bd_rate(finite(own), anchor=finite(other))
            if share is not None:
                rows.append([own.name, other.name, f"{100 * share:+.1f}%"])
                records.append({"name": own.name, "anchor": other.name, "bd_rate": share})
    columns = ["", "against", f"bits at equal {heading.removesuffix(' (dB)')}"]
    return Table(columns, rows, records)


def finite(curve: Curve) -> list[RatePoint]:
    """The points that can be drawn and compared."""
    return [p for p in curve.points if math.isfinite(p.quality) and 0 < p.rate < math.inf]


def score_of(name: str) -> Score:
    """The heading of a score, and how it is written."""
    return _SCORES.get(name, (name, fixed))


def cell(value: float | None, show: Callable[[float], str]) -> str:
    """A number in a table."""
    if value is None or math.isnan(value):
        return NONE
    return show(value) if math.isfinite(value) else ("∞" if value > 0 else "-∞")


def _millions(value: float) -> str:
    return count(value / 1e6)
