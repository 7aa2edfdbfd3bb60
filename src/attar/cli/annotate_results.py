"""`attar annotate`: what is read from a project, its people, its log, and what keeps it safe."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from attar import annotate
from attar.annotate import printing
from attar.annotate.charts import Axis
from attar.cli.output import (
    ExitCode,
    File,
    Json,
    Overwrite,
    note,
    parse_list,
    require_target,
    show,
    show_or_write,
)
from attar.data.segments.streams import OnPipe
from attar.methods.active_segmentation.config import SegmenterConfig

Role = Literal["admin", "reviewer", "annotator"]
_SEGMENTER = Group("Segmenter options", sort_key=2)


def curve(
    project: str,
    *,
    x: Axis = "characters",
    metric: str = "word_f1",
    output_file: File = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Print the learning curve of each sample, with both intervals, and what the difference is.

    Example: `attar annotate curve thai --x corrections --output-file curve.png`

    Parameters
    ----------
    project
        Folder of a project, or one that `attar annotate export` wrote.
    x
        What labels cost.
    metric
        Whose curve, such as word_f1, boundary_f1 or exact.
    output_file
        Draw it into this new file, .png or .svg, or write the points as .csv.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.curve(project, x=x, metric=metric, output_file=output_file)
    show_or_write(run.to_dict(), printing.curve_text(run), target=json_to)
    return ExitCode.DONE


def agree(
    project: str,
    *,
    by: str = "guideline",
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """How far people agree on where words begin, over places where one can begin.

    Parameters
    ----------
    project
        Folder of a project.
    by
        What to tell apart, separated by commas: arm, guideline, annotators, document, prefill,
        week.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.agree(project, by=parse_list(by))
    show_or_write(run.to_dict(), printing.agree_text(run), target=json_to)
    return ExitCode.DONE


def transfer(
    project: str,
    *,
    segmenter: Annotated[
        SegmenterConfig, Parameter(name="*", group=_SEGMENTER)
    ] = SegmenterConfig(),
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Train another segmenter on each sample, and see what the labels are worth to it.

    Example: `attar annotate transfer thai --kind character-cnn`

    Parameters
    ----------
    project
        Folder of a project. It is not changed.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.transfer(project, segmenter=segmenter)
    show_or_write(run.to_dict(), printing.transfer_text(run), target=json_to)
    return ExitCode.DONE


def export(
    project: str,
    *,
    output: File = None,
    format: str | None = None,
    arm: str | None = None,
    guideline: str | None = None,
    history: Annotated[bool, Parameter(negative="")] = False,
    on_pipe: OnPipe = "error",
) -> int:
    """Write the labels of a project into a file, one answer for each sentence; or all of it into a
    folder, from which curves can be drawn again.

    Example: `attar annotate export thai -o labels.conllu`

    Parameters
    ----------
    project
        Folder of a project.
    output
        A new file for labels, or a new folder, whose name has no ending, for everything.
    format
        Of the file, such as jsonl, best or conllu. Default: told by its name.
    arm
        What one sample drew: random or active. Default: all, the evaluation sentences with them.
    guideline
        Labels of this version alone. Default: all, as events leave them.
    history
        With every act on a sentence, in formats that hold it, such as jsonl.
    on_pipe
        What is done about bars in a text, in formats with bars between words.
    """
    run = annotate.export(
        project,
        output=output,
        format=format,
        arm=arm,
        guideline=guideline,
        history=history,
        on_pipe=on_pipe,
    )
    if "folder" in run.details:
        show(f"Everything written to {output}")
        return ExitCode.DONE
    show(f"{run.details['sentences']:,} sentences written to {output}")
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def backup(project: str, *, output_file: File = None, restore: Path | None = None) -> int:
    """Copy a project while people work on it, as it was at one moment; or make one of a copy.

    Example: `attar annotate backup thai`

    Parameters
    ----------
    project
        Folder of a project; with --restore a new folder.
    output_file
        The copy; must not exist. Default: a name with the time, in the project's backups.
    restore
        A copy to unpack into the new folder.
    """
    run = annotate.backup(project, output_file=output_file, restore=restore)
    show(f"Written to {run.details.get('file') or run.details['folder']}")
    return ExitCode.DONE


def upgrade(project: str) -> int:
    """Bring the tables of a project to this version of Attar, after a copy of an SQLite database.

    Parameters
    ----------
    project
        Folder of a project.
    """
    run = annotate.upgrade(project)
    show(printing.upgrade_text(run))
    return ExitCode.DONE


def doctor(project: str, *, json_to: Json = None, overwrite: Overwrite = False) -> int:
    """Check a project: annotations, the random sample, the queue, the log. Nothing is changed.

    Ends with 1 where something is wrong.

    Parameters
    ----------
    project
        Folder of a project.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.doctor(project)
    show_or_write(run.to_dict(), printing.doctor_text(run), target=json_to)
    return ExitCode.DONE if run.details["fine"] else ExitCode.FAILED
