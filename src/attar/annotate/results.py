"""The verbs `annotate curve`, `agree`, `transfer` and `export`: what a project has shown."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from attar.annotate.charts import Axis, require_ending, write_curves
from attar.annotate.loading import load_study
from attar.annotate.points import load_points
from attar.annotate.records import recorded
from attar.annotate.store import open_project
from attar.errors import DataError, did_you_mean
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.curves import Point, difference, rows
from attar.methods.active_segmentation.events import EPOCH_KINDS, Event
from attar.methods.active_segmentation.measuring import transfer_check
from attar.methods.active_segmentation.study import test_set
from attar.report.record import Run


def curve(
    project: str | Path,
    *,
    x: Axis = "characters",
    metric: str = "word_f1",
    output_file: str | Path | None = None,
) -> Run:
    """The learning curve of each sample, with both intervals, and how far they lie apart.

    Args:
        project: its folder; or a .jsonl file that `export` wrote with `history`.
        x: what labels cost.
        metric: whose curve is drawn.
        output_file: a new .png, .svg or .csv file; None: none.

    Returns:
        The record: `details` has `points`, and the `difference` in the last epoch.

    Raises:
        ConfigError: there is no project, or the file cannot be written.
        DataError: nothing was measured yet, or there is no such metric.
    """
    if output_file is not None:
        require_ending(output_file)
    with recorded("curve", project=project, x=x, metric=metric, output_file=output_file) as run:
        points, events = _measured(project)
        if not points:
            raise DataError(
                "expected models that were measured, found none: label evaluation sentences, then "
                "attar annotate train"
            )
        known = sorted({name for point in points for name in point.scores})
        if metric not in known:
            raise DataError(
                f"expected a metric that was measured, one of {', '.join(known)}; found "
                f"{metric!r}{did_you_mean(metric, known)}"
            )
        run.details = {
            "points": rows(points),
            "x": x,
            "metric": metric,
            "difference": _difference(points, x),
            "events": [event.to_dict() for event in events if event.kind in EPOCH_KINDS],
        }
        if output_file is not None:
            write_curves(run.details["points"], output_file, x=x, metric=metric)
    return run


def transfer(project: str | Path, *, segmenter: SegmenterConfig = SegmenterConfig()) -> Run:
    """Train another segmenter on each sample, and see what the labels are worth to it. The project
    stays as it is.

    Args:
        project: its folder.
        segmenter: the other one.

    Returns:
        The record: `details["points"]` has a row for each sample and both.

    Raises:
        ConfigError: there is no project.
        DataError: nothing is labelled yet, or no evaluation sentence.
        MissingExtraError: the segmenter needs a package that is not installed.
    """
    with recorded("transfer", project=project, segmenter=asdict(segmenter)) as run:
        with open_project(project) as opened:
            study = load_study(opened)
        test = test_set(study)
        if not test or not study.picks:
            raise DataError(
                "expected labelled sentences of the arms and of the evaluation set, found none of "
                "one of them: label some first"
            )
        run.details = {"points": rows(transfer_check(study, segmenter, test=test))}
    return run


def _measured(project: str | Path) -> tuple[Sequence[Point], Sequence[Event]]:
    with open_project(project) as opened:
        return load_points(opened), load_study(opened).events


def _difference(points: Sequence[Point], x: str) -> dict[str, Any] | None:
    """Of the active arm over the random one, in the last epoch; None: it cannot be told yet."""
    last = max(point.epoch for point in points)
    by_arm = {
        arm: [p for p in points if p.arm == arm and p.epoch == last and p.counts is not None]
        for arm in ("active", "random")
    }
    try:
        return difference(by_arm["active"], by_arm["random"], axis=x).to_dict()
    except DataError:
        return None
