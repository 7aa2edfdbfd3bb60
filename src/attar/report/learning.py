"""Learning curves: a score over what it cost, with intervals, and marks where something changed."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from attar.report.drawing import BLUE, GREY, INK, ORANGE, as_written, label_of, new_figure, svg_of
from attar.report.units import count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: told apart without colours, too
_STYLES = (("o", BLUE, "-"), ("s", ORANGE, "--"), ("^", GREY, ":"), ("D", INK, "-."))


class Stretch(NamedTuple):
    """Points that a line may join: (cost, value, low, high), by rising cost; the ends of the
    interval may be None."""

    arm: str
    points: Sequence[tuple[float, float, float | None, float | None]]


class Mark(NamedTuple):
    """Something that happened when an arm had cost so much; `number` is its place in a list."""

    arm: str
    x: float
    number: int


def curve_plot(
    stretches: Sequence[Stretch],
    *,
    marks: Sequence[Mark] = (),
    x_label: str,
    y_label: str,
    title: str | None = None,
) -> str:
    """Learning curves of several arms. Returns SVG text.

    Args:
        stretches: of all arms; of one arm there may be several, which no line joins.
        marks: vertical lines in the colour of their arm.
        x_label: what the cost is.
        y_label: what the score is.
        title: over the chart.
    """
    with as_written():
        figure = _curves(stretches, marks=marks, x_label=x_label, y_label=y_label, title=title)
        return svg_of(figure)


def curve_picture(
    stretches: Sequence[Stretch],
    *,
    marks: Sequence[Mark] = (),
    x_label: str,
    y_label: str,
    title: str | None = None,
    dpi: int = 144,
) -> bytes:
    """The same as a PNG file, on white."""
    with as_written():
        figure = _curves(stretches, marks=marks, x_label=x_label, y_label=y_label, title=title)
        return png_of(figure, dpi=dpi)


def png_of(figure: "Figure", *, dpi: int) -> bytes:
    """A figure as a PNG file, which is the same on every run."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()


def ranges(numbers: Sequence[int]) -> str:
    """Numbers in short: 1-3, 5."""
    found: list[list[int]] = []
    for number in sorted({*numbers}):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def _curves(
    stretches: Sequence[Stretch],
    *,
    marks: Sequence[Mark],
    x_label: str,
    y_label: str,
    title: str | None,
    show: Callable[[float], str] = count,
) -> "Figure":
    figure, axes = new_figure(6.4, 3.9, title)
    arms = list(dict.fromkeys(stretch.arm for stretch in stretches))
    styles = {arm: _STYLES[i % len(_STYLES)] for i, arm in enumerate(arms)}
    named: set[str] = set()
    for arm, points in stretches:
        marker, colour, line = styles[arm]
        below = [0.0 if low is None else max(value - low, 0.0) for _, value, low, _ in points]
        above = [0.0 if high is None else max(high - value, 0.0) for _, value, _, high in points]
        axes.errorbar(
            [point[0] for point in points],
            [point[1] for point in points],
            yerr=[below, above],
            color=colour,
            marker=marker,
            markersize=4,
            linestyle=line,
            linewidth=1.2,
            elinewidth=0.8,
            capsize=2,
            label=None if arm in named else label_of(arm),
        )
        named.add(arm)
    at: dict[tuple[str, float], list[int]] = {}
    for arm, x, number in marks:
        at.setdefault((arm, x), []).append(number)
    for (arm, x), numbers in at.items():
        row, colour = (arms.index(arm), styles[arm][1]) if arm in styles else (0, INK)
        axes.axvline(x, color=colour, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            ranges(numbers),
            (x, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + 7 * row),  # those of another arm may stand close by
            textcoords="offset points",
            ha="center",
            fontsize=6,
            color=INK,
        )
    axes.set(xlabel=label_of(x_label), ylabel=label_of(y_label))
    axes.xaxis.set_major_formatter(lambda value, _: show(value))
    axes.set_xlim(left=0)
    if arms:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    return figure
