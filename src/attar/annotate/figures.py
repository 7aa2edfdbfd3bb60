"""The learning curves of a project: as rows, as a picture, and what they amount to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from attar.annotate.charts import picture
from attar.annotate.loading import load_study
from attar.annotate.points import load_points
from attar.annotate.store import Project
from attar.errors import DataError, require
from attar.methods.active_segmentation import curves
from attar.methods.active_segmentation.events import Event
from attar.methods.active_segmentation.measuring import costs
from attar.methods.active_segmentation.points import AXES, Costs, Point
from attar.methods.active_segmentation.study import Study
from attar.report.learning import Mark

SHOWN_AXES = ("characters", "decisions", "corrections", "seconds")
"""The costs that the dashboard draws; the files hold all."""
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

    def marks_on(self, axis: str) -> list[Mark]:
        """The events, where they happened on one cost."""
        arms = {point.arm for point in self.points}
        return [
            Mark(arm, spent.on(axis), place + 1)
            for place, by_arm in self.marks.items()
            for arm, spent in by_arm.items()
            if arm in arms
        ]

    def picture(self, axis: str) -> bytes:
        """The curves over one cost, as a PNG file.

        Raises:
            ConfigError: there is no such cost.
        """
        require(axis in AXES, "axis", axis, f"one of {', '.join(AXES)}")
        return picture(self.rows, x=axis, marks=self.marks_on(axis))

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
