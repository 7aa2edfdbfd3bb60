"""Charts as SVG text, drawn with matplotlib but without its global state.

Text and axes take the colour of the surrounding page (`currentColor`), so that the same chart suits
a light and a dark one.
"""

import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from attar.report.units import count, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

_INK = "#010203"  # stands for the page's text colour until the SVG is written
_BLUE, _ORANGE, _GREY = "#3d7fc4", "#d9772b", "#8b919a"  # told apart on white and on black
_MARKS = {"parent": ("s", _ORANGE), "result": ("o", _BLUE), "baseline": ("^", _GREY)}
_PLACES = (
    (8, 7),
    (8, -13),
    (-8, 7),
    (-8, -13),
    (0, 13),
    (0, -20),
    (8, 20),
    (8, -26),
    (-8, 20),
    (-8, -26),
    (0, 30),
    (0, -36),
)


class Point(NamedTuple):
    """A model in a chart: its name, cost, loss and role (`parent`, `result` or `baseline`)."""

    label: str
    x: float
    y: float
    role: str = "result"


def pareto_front(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats or equals in both cost and loss, by rising cost.

    Of equal points the first is taken.
    """
    front: list[Point] = []
    for point in sorted(points, key=lambda p: (p.x, p.y)):
        if not front or point.y < front[-1].y:
            front.append(point)
    return front


def pareto_plot(
    points: Sequence[Point],
    *,
    x_label: str = "bytes",
    y_label: str = "bits per byte",
    title: str | None = None,
    x_format: Callable[[float], str] | None = None,
) -> str:
    """Loss over cost, both better when smaller, with the Pareto front as a line. Returns SVG text.

    Args:
        points: the models.
        x_label: what the cost is.
        y_label: what the loss is.
        title: over the chart.
        x_format: how a cost is written on the axis; None writes bytes as sizes and other costs as
            counts.
    """
    show = x_format or (size if "bytes" in x_label or "memory" in x_label else count)
    figure, axes = _figure(6.4, 3.9, title)
    front = pareto_front(points)
    axes.plot(
        [p.x for p in front], [p.y for p in front], color=_BLUE, linewidth=1.2, alpha=0.6, zorder=1
    )
    for role, (marker, colour) in _MARKS.items():
        chosen = [p for p in points if p.role == role]
        if chosen:
            axes.scatter(
                [p.x for p in chosen],
                [p.y for p in chosen],
                s=44,
                marker=marker,
                color=colour,
                label=role,
                zorder=3,
            )
    axes.margins(0.16, 0.18)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    if points:
        axes.legend(
            frameon=False,
            fontsize=8,
            labelcolor=_INK,
            ncols=3,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
        )
    _label_points(figure, axes, points)
    return _svg(figure)


def _label_points(figure: "Figure", axes: "Axes", points: Sequence[Point]) -> None:
    """Write each point's name at the first place around it that is free and inside the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles the layout that the places are measured in
    renderer = canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    centres = [axes.transData.transform((p.x, p.y)) for p in points]
    front = [axes.transData.transform((p.x, p.y)) for p in pareto_front(points)]
    steps = [share / 30 for share in range(31)]
    line = [a + (b - a) * step for a, b in pairwise(front) for step in steps]
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    taken += [Bbox.from_extents(x - 1, y - 1, x + 1, y + 1) for x, y in line]
    for point in points:
        fallback = None
        for dx, dy in _PLACES:
            text = axes.annotate(
                point.label,
                (point.x, point.y),
                xytext=(dx, dy),
                textcoords="offset points",
                ha="left" if dx > 0 else "right" if dx < 0 else "center",
                fontsize=8,
                color=_INK,
            )
            box = text.get_window_extent(renderer)
            if _within(box, inside) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
            if fallback is None and _within(box, inside):
                fallback = (dx, dy)
        else:  # no free place: the first one inside, for a label over another is better than none
            dx, dy = fallback or _PLACES[0]
            axes.annotate(
                point.label,
                (point.x, point.y),
                xytext=(dx, dy),
                textcoords="offset points",
                fontsize=8,
                color=_INK,
            )


def _within(box: "Bbox", frame: "Bbox") -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


def widths_plot(
    widths: Mapping[str, Mapping[str, Sequence[float]]], *, title: str | None = None
) -> str:
    """What is left of each layer. Returns SVG text.

    Args:
        widths: for each kind (`KV groups`, `FFN width`), `{"before": [a number a layer], "after":
            [...]}`; `before` may be left out.
        title: over the chart.
    """
    figure, first = _figure(6.4, 1.2 + 1.5 * max(1, len(widths)), title, rows=max(1, len(widths)))
    for axes, (kind, sides) in zip(figure.axes or [first], widths.items(), strict=False):
        after, before = list(sides.get("after", ())), list(sides.get("before", ()))
        layers = range(max(len(after), len(before)))
        if before:
            axes.bar(
                range(len(before)), before, width=0.82, color=_GREY, alpha=0.35, label="before"
            )
        bars = axes.bar(range(len(after)), after, width=0.82, color=_BLUE, label="after")
        if len(layers) <= 24:
            axes.bar_label(
                bars, [f"{value:g}" for value in after], fontsize=7, color=_INK, padding=1
            )
        axes.set_ylabel(kind)
        axes.set_ylim(0, 1.2 * max([*before, *after, 1]))
        _layer_ticks(axes, len(layers))
    figure.axes[-1].set_xlabel("layer")
    if any("before" in sides for sides in widths.values()):
        figure.axes[0].legend(
            frameon=False,
            fontsize=8,
            labelcolor=_INK,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
        )
    return _svg(figure)


def importance_plot(importance: Mapping[str, Sequence[float]], *, title: str | None = None) -> str:
    """How much each module matters: one row a kind, one column a layer, darker is more. Returns SVG
    text.

    Args:
        importance: for each kind (`attention`, `FFN`) a number a layer; each row is coloured on its
            own scale.
        title: over the chart.
    """
    import numpy as np

    figure, axes = _figure(6.4, 1.1 + 0.5 * max(1, len(importance)), title)
    columns = max((len(values) for values in importance.values()), default=0)
    shades = np.full((max(1, len(importance)), max(1, columns)), np.nan)
    for row, values in enumerate(importance.values()):
        numbers = np.asarray(values, dtype=float)
        known = numbers[np.isfinite(numbers)]
        low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
        shades[row, : len(numbers)] = (numbers - low) / (high - low) if high > low else 0.5
        for column, value in enumerate(numbers if columns <= 16 else ()):
            dark = shades[row, column] > 0.55
            axes.text(
                column,
                row,
                f"{value:.2g}",
                ha="center",
                va="center",
                fontsize=7,
                color="#ffffff" if dark else "#10243a",
            )
    axes.pcolormesh(
        np.arange(shades.shape[1] + 1) - 0.5,
        np.arange(shades.shape[0] + 1) - 0.5,
        shades,
        cmap="Blues",
        vmin=-0.15,
        vmax=1.1,
    )
    axes.invert_yaxis()
    axes.set_yticks(range(len(importance)), list(importance))
    axes.set_xlabel("layer")
    _layer_ticks(axes, columns)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return _svg(figure)


def _layer_ticks(axes: "Axes", layers: int) -> None:
    every = max(1, -(-layers // 16))
    axes.set_xticks(range(0, layers, every))
    axes.set_xlim(-0.6, max(layers, 1) - 0.4)


def _figure(
    width: float, height: float, title: str | None, *, rows: int = 1
) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    grid: list[Any] = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for axes in grid:
        axes.patch.set_alpha(0.0)
        axes.tick_params(colors=_INK, labelcolor=_INK, labelsize=8)
        axes.xaxis.label.set(color=_INK, fontsize=9)
        axes.yaxis.label.set(color=_INK, fontsize=9)
        for side, spine in axes.spines.items():
            spine.set_color(_INK)
            spine.set_linewidth(0.6)
            spine.set_visible(side in ("left", "bottom"))
    if title:
        figure.suptitle(title, fontsize=10, color=_INK, x=0.02, ha="left")
    return figure, grid[0]


def _svg(figure: "Figure") -> str:
    """The figure as one `<svg>` element that is the same on every run."""
    import matplotlib

    # Text stays text: it can be searched and read aloud. The salt makes identifiers repeatable.
    with matplotlib.rc_context(
        {"svg.fonttype": "none", "svg.hashsalt": "attar", "font.family": "sans-serif"}
    ):
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*", "font-family: system-ui, sans-serif", svg)
    # Several charts may share a page, where an id must not repeat.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    own = f"c{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r'(?<=["#])([mp][0-9a-f]{10})\b', rf"{own}\1", svg)
    return svg.strip()
