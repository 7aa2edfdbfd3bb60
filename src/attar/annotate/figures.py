"""The learning curves of a project: as rows, as a picture, and in sentences."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attar.annotate.loading import load_study
from attar.annotate.points import load_points
from attar.annotate.store import Project
from attar.errors import DataError, require
from attar.methods.active_segmentation import curves
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.measuring import costs
from attar.methods.active_segmentation.points import AXES, Costs, Point
from attar.methods.active_segmentation.study import Study
from attar.report.learning import Mark, Stretch, curve_picture

SHOWN_AXES = ("characters", "decisions", "corrections", "seconds")
"""The costs that the dashboard draws; the files hold all."""
_METRIC = "word_f1"
#: events that a chart marks, at most: the last ones
_MARKS = 20


@dataclass(frozen=True)
class Curves:
    """The points of all arms and epochs, with their intervals, and the events between them."""

    points: Sequence[Point]
    rows: Sequence[Mapping[str, Any]]
    events: Sequence[Event]
    marks: Mapping[int, Mapping[str, Costs]]
    """Place of an event in `events` -> what each arm had cost when it happened."""

    def picture(self, *, axis: str, title: str | None = None) -> bytes:
        """The curves over one cost, as a PNG file.

        Raises:
            ConfigError: there is no such cost.
        """
        require(axis in AXES, "axis", axis, f"one of {', '.join(AXES)}")
        found: list[Stretch] = []
        bands = {_key(row): (row.get("low"), row.get("high")) for row in self.rows}
        for line in curves.segments(self.points, axis=axis):
            points = [
                (point.costs.on(axis), point.word_f1, *bands[point.arm, point.epoch, point.batch])
                for point in line
            ]
            found.append(Stretch(line[0].arm, points))
        marks = [
            Mark(arm, spent.on(axis), place + 1)
            for place, by_arm in self.marks.items()
            for arm, spent in by_arm.items()
            if any(stretch.arm == arm for stretch in found)
        ]
        return curve_picture(found, marks=marks, x_label=axis, y_label="word F1", title=title)

    def csv(self) -> str:
        """All points as CSV, one a line."""
        names = ["arm", "epoch", "batch", *AXES]
        names += sorted({name for row in self.rows for name in row} - {*names})
        file = io.StringIO()
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return file.getvalue()

    def verdicts(self) -> list[dict[str, Any]]:
        """For each cost: how far the active arm lies above the random one at equal cost in the
        newest epoch that has both, with its interval."""
        found: list[dict[str, Any]] = []
        epoch = max((point.epoch for point in self.points), default=0)
        now = [p for p in self.points if p.epoch == epoch and p.counts is not None]
        arms = [[point for point in now if point.arm == arm] for arm in ("active", "random")]
        for axis in SHOWN_AXES:
            try:
                gap = curves.difference(*arms, axis=axis)
                ratio = curves.saving(*arms, axis=axis)
            except DataError:
                continue
            found.append(gap.to_dict() | {"saving": ratio, "covers_zero": gap.covers_zero})
        return found


def load_curves(project: Project) -> Curves:
    """The curves as the last training runs left them."""
    return curves_of(load_points(project), load_study(project))


def curves_of(points: Sequence[Point], study: Study) -> Curves:
    """The curves of a study, of a project or read back from an export."""
    log = study.events if points else ()
    marks: dict[int, Mapping[str, Costs]] = {}
    at: dict[int, Mapping[str, Costs]] = {}
    for place, event in list(enumerate(log))[-_MARKS:]:
        if not event.sequence:  # at the very beginning there is nothing to mark
            continue
        if event.sequence not in at:
            before = (label for label in study.labels if label.sequence <= event.sequence)
            at[event.sequence] = costs(replace(study, labels=tuple(before)))
        marks[place] = at[event.sequence]
    return Curves(points, curves.rows(points), log, marks)


def _key(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["arm"], row["epoch"], row["batch"]
