"""`attar annotate`: a project from its beginning to its labels; see `annotate_results` for what is
read from it."""

import re
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar import annotate
from attar.annotate import printing
from attar.annotate.config import AnnotateServeConfig
from attar.annotate.settings import AnnotateConfig
from attar.cli.annotate_log import event_add as event_add
from attar.cli.annotate_log import event_list as event_list
from attar.cli.annotate_log import user_add as user_add
from attar.cli.annotate_log import user_list as user_list
from attar.cli.annotate_log import user_role as user_role
from attar.cli.annotate_offline import convert as convert
from attar.cli.annotate_offline import simulate as simulate
from attar.cli.annotate_results import agree as agree
from attar.cli.annotate_results import backup as backup
from attar.cli.annotate_results import curve as curve
from attar.cli.annotate_results import doctor as doctor
from attar.cli.annotate_results import export as export
from attar.cli.annotate_results import transfer as transfer
from attar.cli.annotate_results import upgrade as upgrade
from attar.cli.output import (
    ExitCode,
    Json,
    Overwrite,
    command,
    note,
    noun,
    require_target,
    show,
    show_or_write,
)
from attar.data.segments.streams import Offsets
from attar.methods.active_segmentation.config import SegmenterConfig
from attar.methods.active_segmentation.drawing import DrawConfig

_PROJECT = Group("Project options", sort_key=2)
_DRAWING = Group("Drawing options", sort_key=3)
_SEGMENTER = Group("Segmenter options", sort_key=4)
_SERVING = Group("Serving options", sort_key=2)
_SIMULATION = Group("Simulation options", sort_key=2)
#: `--longest` is that of drawing, of which the project takes it; `--seed` that of the project
_OF_PROJECT = re.compile(r"^(?!(longest|draw|segmenter)$)")
_OF_SEGMENTER = re.compile(r"^(?!seed$)")


def init(
    project: Path,
    *,
    demo: Annotated[bool, Parameter(negative="")] = False,
    database: str | None = None,
    name: str | None = None,
    guideline: Path | None = None,
    seed: int = 13,
    config: Annotated[
        AnnotateConfig, Parameter(name="*", group=_PROJECT, parse=_OF_PROJECT)
    ] = AnnotateConfig(),
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
        details = run.details
        show(f"{printing.curve_text(run)}\n\n{details['about']}")
        show(f"Look at it: {command('annotate', 'serve', project)}")
        show(f"Log in as {details['user']} with the password {details['password']}")
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
    annotator: str | None = None,
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
    annotator
        Whose answers the words in it are. Default: they are no answers.
    """
    options = {"format": format, "snapshot": snapshot, "offsets": offsets, "annotator": annotator}
    run = annotate.import_(project, data=data, **options)
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


def train(project: Path, *, history: Annotated[bool, Parameter(negative="")] = False) -> int:
    """Train on what is labelled now, measure, and rank the corpus anew.

    Parameters
    ----------
    project
        Folder of a project.
    history
        Then also train and measure all batches of the past again, under the guideline of today.
    """
    show(printing.train_text(annotate.train(project, history=history)))
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
