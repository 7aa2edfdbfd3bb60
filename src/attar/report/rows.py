"""Which models a comparison shows, and what each of them is held against."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from attar.report.figures import Figures, Record, scored_on, short, side


@dataclass(frozen=True)
class Row:
    """A model: its name and role (`parent`, `result` or `baseline`), its own figures and those of
    its parent, whose scores are of the same text, and which text that is.
    """

    name: str
    role: str
    own: Figures
    parent: Figures
    text: str | None = None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it is, but for timings, which differ from run to run."""
        cost, quality = self.own
        return self.role, self.name, cost.get("params"), cost.get("bytes"), quality


class Reference(NamedTuple):
    """What a trained model is held against: a teacher or a target, with its name and figures."""

    kind: str
    name: str
    figures: Figures


def reference(run: Record) -> Reference | None:
    """The teacher or the target of a run; None where it had neither."""
    for baseline in run.baselines:
        if baseline.get("name") == "teacher":
            name = run.settings.get("teacher")
            return Reference("teacher", short(name) if name else "teacher", _of_baseline(baseline))
    target = run.details.get("target")
    if isinstance(target, dict) and target.get("cost"):
        name = target.get("name")
        figures = side(target["cost"], "after"), {}
        return Reference("target", short(name) if name else "target", figures)
    return None


def rows_of(runs: Sequence[Record], *, names: Sequence[str]) -> list[Row]:
    """Each parent once, then each run's result and its baselines."""
    rows: list[Row] = []
    for run, name in zip(runs, names, strict=True):
        text, before = scored_on(run), figures_of(run, "before")
        held, earlier = reference(run), _earlier(rows, run)
        listed = earlier is not None and earlier.text == text  # what the run began with
        label = None
        if held is not None:
            parent, label = held.figures, held.name
        elif earlier is not None and any(earlier.parent):  # of a healed model: of the pruned one
            cost, quality = earlier.parent
            parent = cost, quality if listed else {}
        elif earlier is not None and listed:
            parent = earlier.own
        else:
            parent, label = before, short(run.model) if run.model else None
        above = Row(label or "", "parent", parent, parent, text)
        if label and any(parent) and above.identity not in [row.identity for row in rows]:
            rows.append(above)
        if held is not None and any(before) and not listed:
            rows.append(Row(short(run.model), "baseline", before, parent, text))
        rows.append(Row(name, "result", figures_of(run, "after"), parent, text))
        for baseline in run.baselines:
            if baseline.get("name") != "teacher":  # that is the parent
                shown = str(baseline.get("name", "baseline"))
                rows.append(Row(shown, "baseline", _of_baseline(baseline), parent, text))
    return _told_apart(rows)


def figures_of(run: Record, which: str) -> Figures:
    """Cost and quality of a run, `before` or `after`."""
    return side(run.cost, which), side(run.quality, which)


def _of_baseline(baseline: dict[str, Any]) -> Figures:
    return side(baseline.get("cost"), "after"), side(baseline.get("quality"), "after")


def _earlier(rows: Sequence[Row], run: Record) -> Row | None:
    """The result of an earlier run that this run began with."""
    cost = side(run.cost, "before") or side(run.cost, "after")
    for row in rows:
        same = run.model is not None and short(row.name) == short(run.model)
        if row.role == "result" and same and row.own[0].get("params") == cost.get("params"):
            return row
    return None


def _told_apart(rows: Sequence[Row]) -> list[Row]:
    """The same, where a parent that was scored on two texts says which is which."""
    texts: dict[str, set[str | None]] = {}
    for row in rows:
        if row.role == "parent":
            texts.setdefault(row.name, set()).add(row.text)
    return [
        replace(row, name=f"{row.name} ({(row.text or '').partition(' of ')[0]})")
        if row.role == "parent" and row.text and len(texts[row.name]) > 1
        else row
        for row in rows
    ]
