"""Learning curves from plain rows: as a picture, and in a file."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from attar.artefacts import new_file
from attar.errors import ConfigError
from attar.methods.active_segmentation.points import AXES
from attar.report.learning import Mark, Stretch, curve_picture, curve_plot

Row = Mapping[str, Any]
Axis = Literal["sentences", "characters", "decisions", "words", "corrections", "seconds"]

ENDINGS = (".png", ".svg", ".csv")


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


def write_curves(
    rows: Sequence[Row],
    file: str | Path,
    *,
    x: Axis,
    metric: str = "word_f1",
    marks: Sequence[Mark] = (),
) -> None:
    """Draw curves into a new .png or .svg file, or write their points as .csv.

    Args:
        rows: points, as `curves.rows` gives them; of a simulation, each with its `seed`.
        file: a new one.
        x: what labels cost.
        metric: the score that is drawn.
        marks: of events.

    Raises:
        ConfigError: another ending, or the file is there already.
    """
    require_ending(file)
    end = Path(file).suffix.lower()
    with new_file(file) as out:
        if end == ".csv":
            out.write(points_csv(rows).encode())
        elif end == ".svg":
            drawn = stretches(rows, x=x, metric=metric)
            out.write(curve_plot(drawn, marks=marks, x_label=x, y_label=_label(metric)).encode())
        else:
            out.write(picture(rows, x=x, metric=metric, marks=marks))


def picture(
    rows: Sequence[Row], *, x: str, metric: str = "word_f1", marks: Sequence[Mark] = ()
) -> bytes:
    """Curves as a PNG file; see `write_curves`."""
    drawn = stretches(rows, x=x, metric=metric)
    return curve_picture(drawn, marks=marks, x_label=x, y_label=_label(metric))


def stretches(rows: Sequence[Row], *, x: str, metric: str = "word_f1") -> list[Stretch]:
    """A line for each arm, epoch and seed; the intervals are those of word F1 alone."""
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        if row.get(metric) is not None:
            lines.setdefault((row["arm"], row.get("epoch"), row.get("seed")), []).append(row)
    found = []
    for (arm, *_), line in lines.items():
        points = []
        for row in sorted(line, key=lambda row: (row[x], row.get("batch", 0))):
            ends = (row.get("low"), row.get("high")) if metric == "word_f1" else (None, None)
            points.append((float(row[x]), float(row[metric]), *ends))
        found.append(Stretch(arm, points))
    return found


def points_csv(rows: Sequence[Row]) -> str:
    """The points as CSV, one a line, with all columns that any of them has."""
    first = [name for name in ("seed",) if any(name in row for row in rows)]
    columns = dict.fromkeys([*first, "arm", "epoch", "batch", *AXES])
    columns |= dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(columns), restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _label(metric: str) -> str:
    return metric.replace("_", " ").replace("f1", "F1")
