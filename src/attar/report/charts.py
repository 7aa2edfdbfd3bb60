"""Charts as SVG text, drawn with matplotlib but without its global state.

Text and axes take the colour of the surrounding page (`currentColor`), so that the same chart suits
a light and a dark one.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from attar.report.drawing import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    as_written,
    label_of,
    new_figure,
    svg_of,
)
from attar.report.units import count, size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

_MARKS = {"parent": ("s", ORANGE), "result": ("o", BLUE), "baseline": ("^", GREY)}
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
#: points that are named; of more only those of the front
_NAMED = 50


class Point(NamedTuple):
    """A model in a chart: its name, cost, loss and role (`parent`, `result` or `baseline`)."""

    label: str
    x: float
    y: float
    role: str = "result"


class Speed(NamedTuple):
    """A model in a chart of speeds: its name, tokens per second, how far they vary to each side as
    a share, and role.
    """

    label: str
    rate: float
    spread: float
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


@as_written()
def pareto_plot(
    points: Sequence[Point],
    *,
    cloud: Sequence[Point] = (),
    x_label: str = "bytes",
    y_label: str = "bits per byte",
    title: str | None = None,
    x_format: Callable[[float], str] | None = None,
) -> str:
    """Loss over cost, both better when smaller, with the Pareto front as a line. Returns SVG text.

    Args:
        points: the models.
        cloud: further ones, as dots without names behind the others, such as all that a search has
            tried; its front is among `points`.
        x_label: what the cost is.
        y_label: what the loss is.
        title: over the chart.
        x_format: how a cost is written on the axis; None writes bytes as sizes and other costs as
            counts.
    """
    show = x_format or (size if "bytes" in x_label or "memory" in x_label else count)
    figure, axes = new_figure(6.4, 3.9, title)
    points = _one_each(points)
    front = pareto_front(points)
    axes.plot(
        [p.x for p in front], [p.y for p in front], color=BLUE, linewidth=1.2, alpha=0.6, zorder=1
    )
    if cloud:
        axes.scatter(
            [p.x for p in cloud],
            [p.y for p in cloud],
            s=9,
            color=GREY,
            alpha=0.45,
            linewidths=0,
            label="tried",
            zorder=0,
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
                edgecolors="#ffffff",  # so that marks that touch are told apart
                linewidths=0.5,
                label=role,
                zorder=3,
            )
    axes.margins(0.16, 0.18)
    axes.set_xlim(left=0)
    _from_zero_or_broken(axes, [p.y for p in (*points, *cloud)])
    axes.set(xlabel=label_of(x_label), ylabel=label_of(y_label))
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    if points:
        axes.legend(
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            ncols=4,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
        )
    _label_points(figure, axes, points)
    return svg_of(figure)


def _one_each(points: Sequence[Point]) -> list[Point]:
    """A point for each spot, with the names of all models that lie there."""
    spots: dict[tuple[float, float], list[Point]] = {}
    for point in points:
        spot = next((s for s in spots if _one_spot(s, point, among=points)), (point.x, point.y))
        spots.setdefault(spot, []).append(point)
    return [
        there[0]._replace(label=", ".join(dict.fromkeys(point.label for point in there)))
        for there in spots.values()
    ]


def _one_spot(spot: tuple[float, float], point: Point, *, among: Sequence[Point]) -> bool:
    """Whether a chart of these points would show two of them as one."""
    widths = max(p.x for p in among), max(p.y for p in among) - min(p.y for p in among)
    gaps = abs(spot[0] - point.x), abs(spot[1] - point.y)
    return all(gap <= width / 100 for gap, width in zip(gaps, widths, strict=True))


def _from_zero_or_broken(axes: "Axes", values: Sequence[float]) -> None:
    """Let the y axis start at zero, or mark it as broken where that would press all values into its
    upper half."""
    if not values or min(values) < max(values) / 2:
        axes.set_ylim(bottom=min([0, *values]))
        return
    axes.plot(
        [0, 0],
        [0.03, 0.055],
        transform=axes.transAxes,
        marker=[(-1, -0.6), (1, 0.6)],
        markersize=9,
        linestyle="none",
        color=INK,
        clip_on=False,
    )


@as_written()
def speed_plot(
    speeds: Sequence[Speed], *, x_label: str = "tokens per second", title: str | None = None
) -> str:
    """A bar for each model, from zero, with the spread of its timings. Returns SVG text.

    Args:
        speeds: the models, from top to bottom.
        x_label: what the bars are.
        title: over the chart.
    """
    figure, axes = new_figure(6.4, 1.1 + 0.34 * max(1, len(speeds)), title)
    axes.barh(
        range(len(speeds)),
        [speed.rate for speed in speeds],
        height=0.62,
        color=[_MARKS[speed.role][1] for speed in speeds],
        xerr=[speed.rate * speed.spread for speed in speeds],
        error_kw={"ecolor": INK, "elinewidth": 1, "capsize": 3},
    )
    ends = [speed.rate * (1 + speed.spread) for speed in speeds]
    for row, (speed, end) in enumerate(zip(speeds, ends, strict=True)):
        axes.annotate(
            count(speed.rate),
            (end, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=INK,
        )
    axes.set_xlim(0, 1.15 * max([*ends, 1e-9]))
    axes.set_yticks(range(len(speeds)), [label_of(speed.label) for speed in speeds])
    axes.invert_yaxis()
    axes.set_xlabel(x_label)
    axes.xaxis.set_major_formatter(lambda value, _: count(value))
    return svg_of(figure)


def _label_points(figure: "Figure", axes: "Axes", points: Sequence[Point]) -> None:
    """Write each point's name at the first place around it that is free and inside the axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles the layout that the places are measured in
    renderer = canvas.get_renderer()
    inside = axes.get_window_extent(renderer)
    centres = [axes.transData.transform((p.x, p.y)) for p in points]
    best = pareto_front(points)
    front = [axes.transData.transform((p.x, p.y)) for p in best]
    steps = [share / 30 for share in range(31)]
    line = [a + (b - a) * step for a, b in pairwise(front) for step in steps]
    taken = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    taken += [Bbox.from_extents(x - 1, y - 1, x + 1, y + 1) for x, y in line]
    for point in points if len(points) <= _NAMED else best[:_NAMED]:
        fallback = None
        for place in _PLACES:
            text = _write_label(axes, point, place=place)
            box = text.get_window_extent(renderer)
            if _within(box, inside) and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()
            if fallback is None and _within(box, inside):
                fallback = place
        else:  # no free place: the first one inside, for a label over another is better than none
            _write_label(axes, point, place=fallback or _PLACES[0])


def _write_label(axes: "Axes", point: Point, *, place: tuple[int, int]) -> "Annotation":
    """Write a point's name so many points to the right of it and above."""
    return axes.annotate(
        label_of(point.label),
        (point.x, point.y),
        xytext=place,
        textcoords="offset points",
        ha="left" if place[0] > 0 else "right" if place[0] < 0 else "center",
        fontsize=8,
        color=INK,
    )


def _within(box: "Bbox", frame: "Bbox") -> bool:
    return frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1


@as_written()
def widths_plot(
    widths: Mapping[str, Mapping[str, Sequence[float]]], *, title: str | None = None
) -> str:
    """What is left of each layer. Returns SVG text.

    Args:
        widths: for each kind (`KV groups`, `FFN width`), `{"before": [a number a layer], "after":
            [...]}`; `before` may be left out.
        title: over the chart.
    """
    rows = max(1, len(widths))
    figure, first = new_figure(6.4, 1.2 + 1.5 * rows, title, rows=rows)
    for axes, (kind, sides) in zip(figure.axes or [first], widths.items(), strict=False):
        after, before = list(sides.get("after", ())), list(sides.get("before", ()))
        layers = range(max(len(after), len(before)))
        if before:
            axes.bar(range(len(before)), before, width=0.82, color=GREY, alpha=0.35, label="before")
        bars = axes.bar(range(len(after)), after, width=0.82, color=BLUE, label="after")
        if len(layers) <= 24:
            axes.bar_label(
                bars, [f"{value:g}" for value in after], fontsize=7, color=INK, padding=1
            )
        axes.set_ylabel(label_of(kind))
        axes.set_ylim(0, 1.2 * max([*before, *after, 1]))
        _layer_ticks(axes, len(layers))
    figure.axes[-1].set_xlabel("layer")
    if any("before" in sides for sides in widths.values()):
        figure.axes[0].legend(
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            ncols=2,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
        )
    return svg_of(figure)


@as_written()
def importance_plot(importance: Mapping[str, Sequence[float]], *, title: str | None = None) -> str:
    """How much each module matters: one row a kind, one column a layer, darker is more. Returns SVG
    text.

    Args:
        importance: for each kind (`attention`, `FFN`) a number a layer; each row is coloured on its
            own scale.
        title: over the chart.
    """
    import numpy as np

    figure, axes = new_figure(6.4, 1.1 + 0.5 * max(1, len(importance)), title)
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
                f"{value:.2g}" if abs(value) < 1000 else count(float(f"{value:.2g}")),
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
    axes.set_yticks(range(len(importance)), [label_of(kind) for kind in importance])
    axes.set_xlabel("layer")
    _layer_ticks(axes, columns)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    return svg_of(figure)


def _layer_ticks(axes: "Axes", layers: int) -> None:
    every = max(1, -(-layers // 16))
    axes.set_xticks(range(0, layers, every))
    axes.set_xlim(-0.6, max(layers, 1) - 0.4)
