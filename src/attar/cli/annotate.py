"""`attar annotate`: a project from its beginning to its labels; see `annotate_results` for what is
read from it."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar import annotate
from attar.annotate import printing
from attar.annotate.settings import Settings
from attar.annotate.config import AnnotateServeConfig, SimulateConfig
from attar.cli.annotate_results import agree as agree
from attar.cli.annotate_results import backup as backup
from attar.cli.annotate_results import curve as curve
from attar.cli.annotate_results import doctor as doctor
from attar.cli.annotate_results import event_add as event_add
from attar.cli.annotate_results import event_list as event_list
from attar.cli.annotate_results import export as export
from attar.cli.annotate_results import transfer as transfer
from attar.cli.annotate_results import upgrade as upgrade
from attar.cli.annotate_results import user_add as user_add
from attar.cli.annotate_results import user_list as user_list
from attar.cli.annotate_results import user_role as user_role
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    note,
    noun,
    require_target,
    show,
    show_or_write,
)
from attar.data.segments.streams import Offsets, OnPipe
from attar.errors import ConfigError
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig

File = Annotated[Path | None, Parameter(alias="-o")]

_PROJECT = Group("Project options", sort_key=2)
_DRAWING = Group("Drawing options", sort_key=3)
_SEGMENTER = Group("Segmenter options", sort_key=4)
_SERVING = Group("Serving options", sort_key=2)
_SIMULATION = Group("Simulation options", sort_key=2)
#: `--longest` is that of drawing, `--seed` that of the project
_OF_PROJECT = re.compile(r"^(?!(longest|draw|segmenter)$)")
_OF_SEGMENTER = re.compile(r"^(?!seed$)")
#: the strategies of a simulation are its arms
_OF_DRAWING = re.compile(r"^(?!strategy$)")


def init(
    project: Path,
    *,
    demo: Annotated[bool, Parameter(negative="")] = False,
    database: str | None = None,
    name: str | None = None,
    guideline: Path | None = None,
    seed: int = 13,
    config: Annotated[Settings, Parameter(name="*", group=_PROJECT, parse=_OF_PROJECT)] = Settings(),
    drawing: Annotated[DrawConfig, Parameter(name="*", group=_DRAWING)] = DrawConfig(),
    segmenter: Annotated[
        SegmenterConfig, Parameter(name="*", group=_SEGMENTER, parse=_OF_SEGMENTER)
    ] = SegmenterConfig(),
) -> int:
    """Make an annotation project.

    Example: `attar annotate init thai --guideline guideline.md`

    Parameters
    ----------
    project
        A new folder.
    demo
        Fill it with text that Attar makes up, and let simulated annotators label two samples of it:
        less than two minutes.
    database
        URL of an empty PostgreSQL database. Default: SQLite in the folder.
    name
        What the project is called; that of the folder when not given.
    guideline
        A text file with what annotators are told.
    seed
        Of everything random; with the texts it fixes the random sample.
    """
    run = annotate.init(
        project,
        demo=demo,
        database=database,
        name=name,
        guideline=guideline,
        seed=seed,
        config=config,
        drawing=drawing,
        segmenter=segmenter,
    )
    if demo:
        show(f"{printing.curve_text(run)}\n\n{run.details['about']}")
        show(f"Look at it: {command('annotate', 'serve', project)}")
        return ExitCode.DONE
    after = command("annotate", "import", project, "--data", "corpus.txt")
    show(f"Written to {project}. Next: {after}")
    return ExitCode.DONE


def import_(
    project: Path,
    *,
    data: str,
    format: str | None = None,
    snapshot: str | None = None,
    offsets: Offsets = "auto",
) -> int:
    """Add text to a project.

    Example: `attar annotate import thai --data corpus.txt --snapshot 2026-w1`

    Parameters
    ----------
    data
        A file, or a folder of files.
    format
        Its format, such as lines or best. Default: told by name and contents.
    snapshot
        What this state of the corpus is called. Default: a number.
    offsets
        What offsets in it count.
    """
    run = annotate.import_(
        project, data=data, format=format, snapshot=snapshot, offsets=offsets
    )
    show(printing.import_text(run))
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def serve(
    project: Path,
    *,
    config: Annotated[
        AnnotateServeConfig, Parameter(name="*", group=_SERVING)
    ] = AnnotateServeConfig(),
) -> int:
    """Serve a project to annotators and admins until Ctrl-C. With SQLite, the worker runs beside.

    Example: `attar annotate serve thai --port 8080`

    Parameters
    ----------
    project
        Folder of a project.
    """
    annotate.serve(project, config=config)
    return ExitCode.DONE


def worker(project: Path, *, once: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Train, score and draw in the background, until Ctrl-C: for a project on PostgreSQL.

    Parameters
    ----------
    project
        Folder of a project.
    once
        Do what is waiting, and end.
    """
    show(printing.worker_text(annotate.worker(project, once=once)))
    return ExitCode.DONE


def draw(project: Path, *, arm: str | None = None) -> int:
    """Draw the next batch now; the worker does it when tasks run out.

    Parameters
    ----------
    project
        Folder of a project.
    arm
        For one sample: random or active. Default: for both.
    """
    run = annotate.draw(project, arm=arm)
    show(printing.draw_text(run))
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def train(project: Path) -> int:
    """Train on what is labelled now, measure, and rank the corpus anew.

    Parameters
    ----------
    project
        Folder of a project.
    """
    show(printing.train_text(annotate.train(project)))
    return ExitCode.DONE


def status(project: Path, *, json_to: Json = None, overwrite: Overwrite = False) -> int:
    """How far a project is: the corpus, the queue, the models, what needs attention.

    Parameters
    ----------
    project
        Folder of a project.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = annotate.status(project)
    show_or_write(run.to_dict(), printing.status_text(run), target=json_to)
    return ExitCode.DONE


def convert(
    data: str,
    *,
    format: str | None = None,
    to: str | None = None,
    on_pipe: OnPipe = "error",
    offsets: Offsets = "auto",
    output_file: File = None,
) -> int:
    """Write segmented text in another format; no project is needed.

    Example: `attar annotate convert gold.txt --to conllu -o gold.conllu`

    Parameters
    ----------
    data
        A file, a folder of files, or a pattern such as 'corpus/*.txt'.
    format
        Its format. Default: told by name and contents.
    to
        The format to write. Default: told by the name of the new file.
    on_pipe
        What is done about bars in a text, in formats with bars between words: an error, or written
        in full width.
    offsets
        What the offsets in the data count: code points, units of UTF-16, or as the texts tell.
    output_file
        The new file; must not exist.
    """
    if output_file is None:
        raise ConfigError("say where the text goes: -o FILE")
    run = annotate.convert(
        data, output_file=output_file, format=format, to=to, on_pipe=on_pipe, offsets=offsets
    )
    show(f"{run.details['sentences']:,} sentences written to {output_file}")
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def simulate(
    *,
    data: str = "",
    format: str | None = None,
    output_dir: Output = None,
    resume: bool = False,
    json_to: Json = None,
    overwrite: Overwrite = False,
    recipe: Recipe = None,
    config: Annotated[SimulateConfig, Parameter(name="*", group=_SIMULATION)] = SimulateConfig(),
    drawing: Annotated[
        DrawConfig, Parameter(name="*", group=_DRAWING, parse=_OF_DRAWING)
    ] = DrawConfig(),
    segmenter: Annotated[
        SegmenterConfig, Parameter(name="*", group=_SEGMENTER, parse=_OF_SEGMENTER)
    ] = SegmenterConfig(),
) -> int:
    """Replay a project on text whose words are known: the live code, with answers from a file.

    Example: `attar annotate simulate --data gold.txt --format best -o my-simulation`

    Parameters
    ----------
    data
        Segmented text: a file, a folder of files, or a pattern such as 'corpus/*.txt'.
    format
        Its format. Default: told by names and contents.
    output_dir
        Write the record (attar.json), the points (points.csv) and the curves (curves.png) into
        this folder, which must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    if not data:
        raise ConfigError("say what to replay: --data with segmented text")
    run = annotate.simulate(
        data,
        format=format,
        config=config,
        drawing=drawing,
        segmenter=segmenter,
        output_dir=output_dir,
        recipe=recipe,
        resume=resume,
    )
    show_or_write(run.to_dict(), printing.simulate_text(run), target=json_to)
    for warning in run.details["warnings"]:
        note(warning)
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = noun(
        "annotate",
        "Label text with people, and see whether choosing what they label pays.",
        {
            "init": init,
            "import": import_,
            "serve": serve,
            "worker": worker,
            "draw": draw,
            "train": train,
            "status": status,
            "curve": curve,
            "agree": agree,
            "transfer": transfer,
            "export": export,
            "convert": convert,
            "simulate": simulate,
            "backup": backup,
            "upgrade": upgrade,
            "doctor": doctor,
        },
    )
    app.command(noun("event", "What changed, and when.", {"add": event_add, "list": event_list}))
    people = {"add": user_add, "role": user_role, "list": user_list}
    app.command(noun("user", "Who may log in, and what they may do.", people))
    return app
