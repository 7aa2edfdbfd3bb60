"""A page about a codec for people: pictures and sounds, before and after, beside its baselines.

It reads plain figures and tensors, and knows no codec.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup
from torch import Tensor

from attar.codec.drawings import Curve, picture_uri, rate_chart, spectrograms, wav_uri
from attar.codec.tables import Measured, cell, finite, measured_table, savings_table, score_of
from attar.errors import DataError, printable, require
from attar.report.pages import write_page
from attar.report.tables import Table
from attar.report.units import fixed


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One item before and after.

    Attributes:
        name: of the item.
        original: `(C, H, W)` of a picture or `(C, T)` of a recording, from -0.5 to 0.5.
        decoded: the same shape.
        rate: bits per pixel, or per sample of one channel; None where that is not known.
        scores: fidelity by name, such as `psnr`.
        sampling_rate: of a recording, in Hz.
    """

    name: str
    original: Tensor
    decoded: Tensor
    rate: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    sampling_rate: int | None = None


def codec_page(
    shown: Sequence[Shown],
    path: str | Path,
    *,
    measured: Sequence[Measured] = (),
    curves: Sequence[Curve] = (),
    quality: str = "psnr",
    title: str = "Codec report",
    notes: Sequence[str] = (),
    max_items: int = 8,
    side: int = 512,
    seconds: float = 6.0,
    amplification: float = 8.0,
) -> Path:
    """Write one self-contained HTML page: no scripts, no network. Returns its path.

    Args:
        shown: items of one kind, pictures or recordings; may be none.
        path: the file.
        measured: the codec and its baselines.
        curves: of the codec and its baselines, over several rates.
        quality: the name of the score on the curves.
        title: the page's heading.
        notes: sentences under it, such as what was measured and what is left out.
        max_items: items that are shown, the first ones.
        side: of a larger picture the middle square of so many pixels a side is shown.
        seconds: of a longer recording so many are shown, from its start.
        amplification: by how much differences of pictures are enlarged.

    Raises:
        ConfigError: a bound is not above 0, or the file cannot be written.
        DataError: an item is neither picture nor recording, or the items are of both kinds.
    """
    bounds = {
        "max_items": max_items,
        "side": side,
        "seconds": seconds,
        "amplification": amplification,
    }
    for name, bound in bounds.items():
        require(math.isfinite(bound) and bound > 0, name, bound, "a finite number above 0")
    sound = _kind(shown)
    unit, chosen = "sample" if sound else "pixel", shown[:max_items]
    if sound:
        items = [_recording(item, seconds=seconds) for item in chosen]
    else:
        items = [_picture(item, side=side, factor=amplification) for item in chosen]
    return write_page(
        "codec.html",
        path,
        title=printable(title),
        notes=[printable(note) for note in notes],
        table=_html(measured_table(measured, unit=unit)),
        chart=_chart(curves, unit=unit, quality=quality),
        points=_html(_points(curves, unit=unit, quality=quality)),
        savings=_html(savings_table(curves, quality=quality)),
        sound=sound,
        items=items,
        total=len(shown),
        factor=f"{amplification:g}",
    )


def _kind(shown: Sequence[Shown]) -> bool:
    """Whether the items are recordings."""
    kinds = set[bool]()
    for item in shown:
        dimensions, shape = item.original.dim(), tuple(item.original.shape)
        if shape != tuple(item.decoded.shape) or not item.original.numel():
            raise DataError(
                f"{item.name}: expected an original and a decoded signal of one shape, not empty; "
                f"found {shape} and {tuple(item.decoded.shape)}"
            )
        if dimensions != 3 and (dimensions != 2 or not item.sampling_rate):
            raise DataError(
                f"{item.name}: expected a picture (C, H, W), or a recording (C, T) with its "
                f"sampling rate; found the shape {shape} and the rate {item.sampling_rate}"
            )
        kinds.add(dimensions == 2)
    if len(kinds) > 1:
        raise DataError("one page shows pictures or recordings; write a page for each")
    return kinds == {True}


def _points(curves: Sequence[Curve], *, unit: str, quality: str) -> Table:
    heading, show = score_of(quality)
    rows = [
        [curve.name, cell(point.rate, fixed), cell(point.quality, show)]
        for curve in curves
        for point in sorted(curve.points)
    ]
    return Table(["", f"bits per {unit}", heading], rows)


def _chart(curves: Sequence[Curve], *, unit: str, quality: str) -> Markup | None:
    drawn = [curve for curve in curves if finite(curve)]
    if not drawn:
        return None
    heading, _ = score_of(quality)
    label = f"{heading} over bits per {unit} of {', '.join(curve.name for curve in drawn)}"
    chart = rate_chart(drawn, x_label=f"bits per {unit}", y_label=heading, label=printable(label))
    return Markup(chart)


def _html(table: Table) -> Markup | None:
    return Markup(table.html()) if table.rows else None


def _facts(item: Shown, *, unit: str) -> str:
    """Rate and scores in a line."""
    parts = [] if item.rate is None else [f"{cell(item.rate, fixed)} bits per {unit}"]
    for name, value in item.scores.items():
        heading, show = score_of(name)
        label, decibels = heading.removesuffix(" (dB)"), " dB" if heading.endswith("(dB)") else ""
        parts.append(f"{label} {cell(value, show)}{decibels}")
    return printable(", ".join(parts))


def _picture(item: Shown, *, side: int, factor: float) -> dict[str, Any]:
    """What the template shows of a picture."""
    channels, height, width = item.original.shape
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    x, y = (
        values[:, top : top + side, left : left + side].detach().cpu().double().clamp(-0.5, 0.5)
        for values in (item.original, item.decoded)
    )
    notes = []
    if x.shape != item.original.shape:
        notes.append(f"the middle {x.shape[2]} x {x.shape[1]} of {width} x {height} pixels")
    if channels not in (1, 3):
        notes.append(f"channels 1 to 3 of {channels}" if channels > 3 else "channel 1 of 2")
    name, facts = printable(item.name), _facts(item, unit="pixel")
    return {
        "name": name,
        "facts": facts,
        "note": ", ".join(notes),
        "width": x.shape[2],
        "height": x.shape[1],
        "images": [
            ("original", f"{name}, original", picture_uri(x)),
            (
                "decoded",
                f"{name}, decoded: {facts}" if facts else f"{name}, decoded",
                picture_uri(y),
            ),
            (
                f"difference, {factor:g} times",
                f"{name}, decoded less original, {factor:g} times; grey where they are equal",
                picture_uri((y - x) * factor),
            ),
        ],
    }


def _recording(item: Shown, *, seconds: float) -> dict[str, Any]:
    """What the template shows of a recording."""
    rate = item.sampling_rate or 1
    frames = max(1, round(seconds * rate))
    x, y = (
        values[:, :frames].detach().cpu().double().clamp(-0.5, 0.5)
        for values in (item.original, item.decoded)
    )
    total = item.original.shape[1]
    name = printable(item.name)
    whole, part = f"{total / rate:.3g} s", f"the first {x.shape[1] / rate:.3g} s of "
    label = f"Spectrograms of {name}: original, decoded, and their difference"
    return {
        "name": name,
        "facts": _facts(item, unit="sample"),
        "note": (part if frames < total else "") + whole,
        "players": [
            ("original", f"{name}, original", wav_uri(x, rate=rate)),
            ("decoded", f"{name}, decoded", wav_uri(y, rate=rate)),
        ],
        "spectrograms": Markup(spectrograms(x, y, rate=rate, label=label)),
    }
