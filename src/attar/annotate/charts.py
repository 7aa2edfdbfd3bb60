"""Learning curves as a picture and as a table, from plain rows."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from attar.artefacts import new_file
from attar.errors import ConfigError
from attar.report.drawing import BLUE, GREY, INK, ORANGE, as_written, label_of, new_figure, svg_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = Mapping[str, Any]
Axis = Literal["sentences", "characters", "decisions", "words", "corrections", "seconds"]

ENDINGS = (".png", ".svg", ".csv")
_COLOURS = (BLUE, ORANGE, GREY, "#5a9e4b", "#9a63b8", "#b8863b")
_AXES = {
    "sentences": "sentences labelled",
    "characters": "characters labelled",
    "decisions": "decisions (places where a word can begin)",
    "words": "words labelled",
    "corrections": "boundaries corrected",
    "seconds": "seconds of annotators",
}


def require_ending(file: str | Path) -> None:
    """Refuse a file that curves cannot be written to.

    Raises:
        ConfigError: its name ends in none of `ENDINGS`.
    """
    if Path(file).suffix.lower() not in ENDINGS:
        raise ConfigError(
            f"expected a file for curves that ends in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}; "
            f"found {str(file)!r}"
        )


def write_curves(rows: Sequence[Row], file: str | Path, **options: Any) -> None:
    """Draw curves into a new file, or write their points, as its ending says; see `curves_figure`.

    Raises:
        ConfigError: another ending, or the file is there already.
    """
    require_ending(file)
    with new_file(file) as out:
        if Path(file).suffix.lower() == ".csv":
            out.write(points_csv(rows).encode())
        else:
            out.write(curves_picture(rows, svg=Path(file).suffix.lower() == ".svg", **options))


def points_csv(rows: Sequence[Row]) -> str:
    """The points as CSV, one a line, with all columns that any of them has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def curves_picture(rows: Sequence[Row], *, svg: bool = False, **options: Any) -> bytes:
    """The curves as PNG or SVG; see `curves_figure`."""
    with as_written():
        figure = curves_figure(rows, **options)
        if svg:
            return svg_of(figure).encode()
        figure.patch.set(alpha=1.0, facecolor="white")
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=150, metadata={"Software": None})
        return out.getvalue()


def curves_figure(
    rows: Sequence[Row],
    *,
    x: Axis = "characters",
    metric: str = "word_f1",
    title: str | None = None,
    events: Sequence[tuple[float, str]] = (),
) -> "Figure":
    """A line for each arm, epoch and seed, with a band where the rows have an interval.

    Args:
        rows: points, as `curves.rows` gives them; `seed` is there in simulations.
        x: what labels cost.
        metric: the score.
        title: of the chart; None: none.
        events: marks: where, in `x`, and what it was.
    """
    figure, axes = new_figure(7.0, 4.2, title)
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    for arm, colour in zip(arms, _COLOURS * len(arms), strict=False):
        lines: dict[tuple[Any, Any], list[Row]] = {}
        for row in rows:
            if row["arm"] == arm and row.get(metric) is not None:
                lines.setdefault((row.get("seed"), row.get("epoch")), []).append(row)
        label: str | None = label_of(str(arm))
        for line in lines.values():
            line.sort(key=lambda row: row[x])
            at, scores = [row[x] for row in line], [row[metric] for row in line]
            axes.plot(at, scores, "o-", color=colour, label=label, markersize=3, linewidth=1.2)
            label = None
            banded = [row for row in line if row.get("low") is not None]
            if metric == "word_f1" and banded:
                where = [row[x] for row in banded]
                low, high = [row["low"] for row in banded], [row["high"] for row in banded]
                axes.fill_between(where, low, high, color=colour, alpha=0.15, linewidth=0)
    for where, what in events:
        axes.axvline(where, color=INK, linewidth=0.8, linestyle=":")
        axes.annotate(
            label_of(what),
            (where, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -3),
            textcoords="offset points",
            color=INK,
            fontsize=7,
            rotation=90,
            va="top",
        )
    axes.set_xlabel(_AXES.get(x, x))
    axes.set_ylabel(metric.replace("_", " ").replace("f1", "F1"))
    if arms:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="lower right")
    return figure
