"""What a comparison comes to: its conclusion in words, the texts behind the scores, and the points
of its charts.
"""

from collections.abc import Sequence
from typing import Any

from attar.errors import finite, printable
from attar.report.charts import Point, Speed
from attar.report.figures import Record
from attar.report.rows import rows_of
from attar.report.tables import comparison, names_of


def conclusion(runs: Sequence[Record], *, names: Sequence[str] | None = None) -> str | None:
    """What came out, in a sentence for each result that has a parent: `half is 37% smaller than its
    parent and has 0.8% more bits per byte`. None where no result has one.
    """
    shown = list(names or names_of(runs))
    measures = {
        name: str(run.details.get("primary")) for name, run in zip(shown, runs, strict=True)
    }
    said = []
    for record in comparison(runs, names=shown).records:
        parts = []
        if (size := record["bytes_ratio"]) is not None:
            parts.append(_size_said(size))
        if (loss := record["bits_per_byte_ratio"]) is not None:
            parts.append(_loss_said(loss))
        measure = measures.get(record["run"], "")
        if (share := record.get(f"{measure}_ratio")) is not None:
            parts.append(f"has {100 * share:.1f}% of its {measure.replace('_', ' ')}")
        if parts and record["role"] == "result":
            said.append(f"{record['run']} {' and '.join(parts)}.")
    return printable(" ".join(said)) or None


def _size_said(ratio: float) -> str:
    if not (percent := _percent(ratio)):
        return "is as large as its parent"
    return f"is {percent} {'larger' if ratio > 1 else 'smaller'} than its parent"


def _loss_said(ratio: float) -> str:
    if not (percent := _percent(ratio)):
        return "has as many bits per byte"
    return f"has {percent} {'more' if ratio > 1 else 'fewer'} bits per byte"


def _percent(ratio: float) -> str:
    """How far a ratio is from 1; empty where no digit would show it."""
    percent = 100 * abs(ratio - 1)
    return "" if percent < 0.05 else f"{percent:.{0 if percent >= 10 else 1}f}%"


def scored_apart(runs: Sequence[Record], *, names: Sequence[str] | None = None) -> str | None:
    """A warning if the models were not all scored on the same text, or not in the same tokens; None
    if they were.
    """
    texts: dict[str, list[str]] = {}
    tokens: set[Any] = set()
    for row in rows_of(runs, names=names or names_of(runs)):
        if row.text and row.role != "baseline":
            texts.setdefault(row.text, []).append(row.name)
            tokens.add((row.text, row.own[1].get("tokens")))
    if len(texts) > 1:
        parts = [f"{_listed(found)} on {text}" for text, found in texts.items()]
        return printable(
            f"the models were scored on different text ({'; '.join(parts)}), so compare scores "
            "only among those of one text"
        )
    if len(tokens - {(text, None) for text in texts}) > 1:
        return (
            "the models read the text in different tokens, so compare their bits per byte, and not "
            "their perplexities"
        )
    return None


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])]
    return " and ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))


def pareto_points(
    runs: Sequence[Record],
    *,
    cost: str = "bytes",
    names: Sequence[str] | None = None,
    text: str | None = None,
) -> list[Point]:
    """Points (cost, bits per byte) for `pareto_plot`, of all models in the runs that have both.

    Args:
        runs: the records.
        cost: a column.
        names: a name for each run; None takes methods and commands.
        text: only models that were scored on it; None takes all.
    """
    return [
        Point(record["run"], record[cost], record["bits_per_byte"], record["role"])
        for record in comparison(runs, names=names).records
        if finite(record[cost])
        and finite(record["bits_per_byte"])
        and text in (None, record["scored_on"])
    ]


def speeds(
    runs: Sequence[Record], *, phase: str, names: Sequence[str] | None = None
) -> dict[str, list[Speed]]:
    """Tokens per second for `speed_plot`, of the models that were timed alike, by how that was.

    Args:
        runs: the records.
        phase: `prefill` or `decode`.
        names: a name for each run; None takes methods and commands.
    """
    shown, alike = names or names_of(runs), dict[str, list[Speed]]()
    rows, records = rows_of(runs, names=shown), comparison(runs, names=shown).records
    for row, record in zip(rows, records, strict=True):
        if record[phase] is not None:
            timed = row.own[0].get("timed") or {}
            setting = (
                f"batch size {timed.get('batch_size', 1)}, prompt of "
                f"{timed.get('prompt_tokens', 0)} tokens"
                + (f", threads: {timed['threads']}" if "threads" in timed else "")
            )
            speed = Speed(row.name, record[phase], record[f"{phase}_spread"], row.role)
            alike.setdefault(setting, []).append(speed)
    return alike
