"""What the records of `attar annotate` say, as lines of text for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from attar.report.record import Run
from attar.report.tables import Table


def score(value: float | None) -> str:
    """A share as people read it; a dash where there is none."""
    return "-" if value is None else f"{value:.4f}"


def simulate_text(run: Run) -> str:
    """The end of each arm, and how far their curves lie apart."""
    rows = [
        [
            str(row["arm"]),
            score(row["word_f1"]),
            score(row["spread"]),
            *(f"{row[axis]:,.0f}" for axis in ("sentences", "characters", "decisions")),
            *(f"{row[axis]:,.0f}" for axis in ("corrections", "seconds")),
        ]
        for row in run.details["summary"]
    ]
    heads = ["arm", "word F1", "over seeds", "sentences", "characters", "decisions"]
    lines = [Table([*heads, "corrections", "seconds"], rows).text()]
    for gap in run.details["differences"]:
        bounds = "; ".join(f"{low:+.4f} to {high:+.4f}" for low, high in gap["intervals"])
        lines.append(
            f"{gap['arm']} over {gap['against']} at equal {gap['axis']}: "
            f"{gap['value']:+.4f} of word F1 (each seed: {bounds})"
        )
    return "\n".join(lines)


def _lines(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        for name, value in values.items()
    ]


def _table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    return Table(
        [name.replace("_", " ") for name in columns],
        [["-" if row.get(name) is None else str(row[name]) for name in columns] for row in rows],
    ).text()
