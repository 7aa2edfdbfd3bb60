"""`attar distill`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.labelled import ColumnOptions, Columns, Student, StudentOptions
from attar.cli.output import show
from attar.errors import ConfigError
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import distill as distill_model

_PIPELINE = Group("Pipeline and training options", sort_key=3)


def distill(
    *,
    data: str | None = None,
    teacher: str | None = None,
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    resume: bool = False,
    student: StudentOptions = Student(),
    columns: ColumnOptions = Columns(),
    options: Annotated[DistillConfig, Parameter(name="*", group=_PIPELINE)] = DistillConfig(),
) -> int:
    """Train an encoder for a task from a larger one, by any distillation pipeline (Distiller).

    Example: `attar distill --teacher my-teacher --student-layers 2 --data reviews.csv -o small`

    Without --teacher the labels alone teach (set --hard-weight 1): that is how a teacher is made.
    `attar distill search` tries many pipelines, and `attar distill importance` tells which choices
    mattered.

    Parameters
    ----------
    data
        Labelled examples: a Hub name, a .csv, .tsv, .jsonl or .parquet file (also .gz), a folder of
        them, python-stdlib:package or python-stdlib:docstring.
    teacher
        Folder or Hub name of an encoder that was trained on this task.
    output_dir
        Where the student goes; must be new or empty.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    if data is None:
        raise ConfigError("say what to learn from: --data with a file, a folder or a Hub name")
    run = distill_model(
        data=data,
        teacher=teacher,
        output_dir=folder,
        config=options,
        resume=resume,
        **vars(student),
        **vars(columns),
    )
    show(str(run))
    show(f"\nThe scores are of {run.details['test_rows']:,} test examples. Written to {folder}.")
    return ExitCode.DONE


def __getattr__(name: str) -> App:
    """`app` is the verb with its sub-commands: a new one each time, as the command line that takes
    it in changes it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from attar.cli.distill_search import importance, search

    app = App(name="distill")
    app.default(distill)
    app.command(search)
    app.command(importance)
    return app
