"""The verbs `annotate curve`, `agree`, `transfer` and `export`: what a project has shown."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from sqlalchemy import select

from attar.annotate.agreeing import agreement
from attar.annotate.charts import Axis, require_ending, write_curves
from attar.annotate.converting import written_as
from attar.annotate.exporting import export_project, labelled, read_export
from attar.annotate.figures import curves_of
from attar.annotate.loading import load_study
from attar.annotate.opening import open_project
from attar.annotate.points import load_points
from attar.annotate.records import recorded
from attar.annotate.tables import Arm, Guideline
from attar.data.segments.formats import write_segments
from attar.data.segments.streams import OnPipe, Report
from attar.errors import ConfigError, DataError, did_you_mean, require
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.curves import rows
from attar.methods.active_segmentation.measuring import transfer_check
from attar.methods.active_segmentation.points import Point
from attar.methods.active_segmentation.study import Study, test_set
from attar.report.record import Run

#: what tells an export from a project
_EXPORTED = "project.json"
#: formats that keep whatever is known of a sentence
WITH_HISTORY = ("jsonl", "datasets", "label-studio", "doccano", "prodigy")


def curve(
    project: str | Path,
    *,
    x: Axis = "characters",
    metric: str = "word_f1",
    output_file: str | Path | None = None,
) -> Run:
    """The learning curve of each sample, with both intervals, and how far they lie apart.

    Args:
        project: its folder, or one that `export` wrote.
        x: what labels cost.
        metric: whose curve is drawn.
        output_file: a new .png, .svg or .csv file; None: none.

    Returns:
        The record: `details` has `points`, `events`, and how far the active arm lies above the
        random one in the last epoch, on several costs (`differences`).

    Raises:
        ConfigError: there is no project, or the file cannot be written.
        DataError: nothing was measured yet, or there is no such metric.
    """
    if output_file is not None:
        require_ending(output_file)
    with recorded("curve", project=project, x=x, metric=metric, output_file=output_file) as run:
        points, study = _measured(project)
        _require_metric(points, metric)
        found = curves_of(points, study)
        run.details = {
            "points": found.rows,
            "x": x,
            "metric": metric,
            "differences": found.verdicts(),
            "events": [event.to_dict() for event in found.events],
        }
        if output_file is not None:
            write_curves(found.rows, output_file, x=x, metric=metric, marks=found.marks_on(x))
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
                "expected labelled sentences of the arms and of the evaluation set; one of them "
                "has none: label some first"
            )
        run.details = {"points": rows(transfer_check(study, segmenter, test=test))}
    return run


def export(
    project: str | Path,
    *,
    output: str | Path | None = None,
    format: str | None = None,
    arm: str | None = None,
    guideline: str | None = None,
    history: bool = False,
    on_pipe: OnPipe = "error",
) -> Run:
    """Write the labels of a project, one answer for each sentence; or, where `output` has no
    ending, all of the project, from which curves can be drawn again.

    Args:
        project: its folder.
        output: must be given: a new file for labels, or a new folder for everything.
        format: of the file; None: told by its name.
        arm: only what it drew: random or active; None: all, the evaluation sentences with them.
        guideline: only labels that follow it; None: all, as events leave them.
        history: with every act on a sentence, in formats that hold it.
        on_pipe: what is done about bars in a text, in formats with bars between words.

    Returns:
        The record: `details` has the number of `sentences`, of labels.

    Raises:
        ConfigError: there is no project, no such arm or version or format, or the output is there.
        DataError: nothing is labelled yet, or the format cannot hold it.
    """
    if output is None:
        raise ConfigError("say where labels go: --output FILE, or for everything --output FOLDER")
    whole = format is None and not Path(output).suffix
    with (
        recorded("export", project=project, output=output, arm=arm, guideline=guideline) as run,
        open_project(project) as opened,
    ):
        if whole:
            if arm or guideline or history:
                raise ConfigError(
                    "a folder gets everything; for labels of one arm or guideline give a file, as "
                    "in -o labels.jsonl"
                )
            export_project(opened, output=output)
            run.details = {"folder": str(output)}
            return run
        with opened.read() as session:
            known = {
                "arm": select(Arm.name).order_by(Arm.number),
                "guideline": select(Guideline.version).order_by(Guideline.number),
            }
            for name, wanted in (("arm", arm), ("guideline", guideline)):
                there = session.scalars(known[name]).all()
                if wanted is not None and wanted not in there:
                    raise ConfigError(f"{name} must be one of {', '.join(there)}; found {wanted!r}")
        kind = format or written_as(output, option="--format")
        fine = not history or kind in WITH_HISTORY
        require(fine, "format", kind, f"one of {', '.join(WITH_HISTORY)}, which hold a history")
        found = list(labelled(opened, arm=arm, guideline=guideline, history=history))
        if not found:
            raise DataError("expected labelled sentences to export, found none: label some first")
        report = Report()
        write_segments(found, output, format=kind, on_pipe=on_pipe, report=report)
        run.details = {"sentences": len(found), "warnings": report.warnings}
    return run


def agree(project: str | Path, *, by: Sequence[str] = ("guideline",)) -> Run:
    """How far people agree on where words begin, over places where one can begin.

    Args:
        project: its folder.
        by: what to tell apart: arm, guideline, annotators, document, prefill, week.

    Returns:
        The record: `details["groups"]` has a row for each.

    Raises:
        ConfigError: there is no project, or nothing of that name to tell apart.
        DataError: no two people have labelled the same sentence.
    """
    with recorded("agree", project=project, by=[*by]) as run, open_project(project) as opened:
        found = agreement(opened, by=by)
        if not found:
            raise DataError(
                "expected sentences that two people have labelled, found none; --overlap-share of "
                "attar annotate init says how many are shared"
            )
        run.details = {"groups": [asdict(one) for one in found]}
    return run


def _measured(project: str | Path) -> tuple[Sequence[Point], Study]:
    if (Path(project) / _EXPORTED).is_file():
        study, points = read_export(project)
        return points, study
    with open_project(project) as opened:
        return load_points(opened), load_study(opened)


def _require_metric(points: Sequence[Point], metric: str) -> None:
    if not points:
        raise DataError(
            "expected models that were measured, found none: label evaluation sentences, then "
            "attar annotate train"
        )
    known = sorted({name for point in points for name in point.scores})
    if metric not in known:
        raise DataError(
            f"expected a metric that was measured, one of {', '.join(known)}; found {metric!r}"
            f"{did_you_mean(metric, known)}"
        )
