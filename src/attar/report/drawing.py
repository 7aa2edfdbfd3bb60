"""An empty figure in the style of all charts, and a figure as SVG text."""

import io
import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from attar.errors import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour until the SVG is written
BLUE, ORANGE, GREY = "#3d7fc4", "#d9772b", "#8b919a"  # told apart on white and on black
_LABEL = 60  # characters of a label that are shown


@contextmanager
def as_written() -> Iterator[None]:
    """Draw with text that stays text, can be searched and read aloud, and holds no formulas: a
    name may have a dollar in it. The salt makes identifiers repeatable.
    """
    import matplotlib

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "attar",
        "font.family": "sans-serif",
        "text.parse_math": False,
    }
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts may have it
        yield


def label_of(name: str) -> str:
    """A name as a chart shows it: in one short line."""
    text = printable(name)
    return text if len(text) <= _LABEL else f"{text[: _LABEL - 3]}..."


def new_figure(
    width: float, height: float, title: str | None, *, rows: int = 1
) -> tuple["Figure", "Axes"]:
    """A figure of so many inches, with its axes, of which there may be several rows, and the first
    of them; what `svg_of` writes.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    grid: list[Any] = list(figure.subplots(rows, 1, squeeze=False)[:, 0])
    for axes in grid:
        axes.patch.set_alpha(0.0)
        axes.tick_params(colors=INK, labelcolor=INK, labelsize=8)
        axes.xaxis.label.set(color=INK, fontsize=9)
        axes.yaxis.label.set(color=INK, fontsize=9)
        for side, spine in axes.spines.items():
            spine.set_color(INK)
            spine.set_linewidth(0.6)
            spine.set_visible(side in ("left", "bottom"))
    if title:
        figure.suptitle(label_of(title), fontsize=10, color=INK, x=0.02, ha="left")
    return figure, grid[0]


def svg_of(figure: "Figure") -> str:
    """The figure as one `<svg>` element that is the same on every run."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;]*", "font-family: system-ui, sans-serif", svg)
    # Several charts may share a page, where an id must not repeat.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    own = f"c{zlib.crc32(svg.encode()):08x}"
    svg = re.sub(r'(?<=["#])([mp][0-9a-f]{10})\b', rf"{own}\1", svg)
    return svg.strip()
