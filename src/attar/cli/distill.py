"""`attar distill`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter

from attar.cli.app import ExitCode, require_folder_option
from attar.cli.output import show
from attar.data.labelled import TaskKind
from attar.errors import ConfigError
from attar.methods.distiller import DistillConfig, StudentInit
from attar.methods.distiller import distill as distill_model

_PIPELINE = Group("Pipeline and training options", sort_key=1)


def distill(
    *,
    data: str | None = None,
    teacher: str | None = None,
    student: str | None = None,
    student_layers: int | None = None,
    student_width: int | None = None,
    student_init: StudentInit = "cut",
    output_dir: Annotated[Path | None, Parameter(alias="-o")] = None,
    task: TaskKind | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    data_config: str | None = None,
    resume: bool = False,
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
    student
        Folder or Hub name of the encoder to train.
    student_layers
        Instead of --student: this many layers of the teacher.
    student_width
        With --student-init random: the width of its hidden states; the teacher's when not given.
    student_init
        cut copies the teacher's weights into those layers, random does not.
    output_dir
        Where the student goes; must be new or empty.
    task
        What is predicted; inferred from the labels when not given.
    text_column
        Column of the text; a usual name is looked for when not given, as for the next two.
    pair_column
        Column of the second text.
    label_column
        Column of the labels.
    data_config
        Configuration of a data set on the Hub.
    resume
        Go on with an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    if data is None:
        raise ConfigError("say what to learn from: --data with a file, a folder or a Hub name")
    run = distill_model(
        student,
        data,
        teacher=teacher,
        output_dir=folder,
        config=options,
        student_layers=student_layers,
        student_width=student_width,
        student_init=student_init,
        task=task,
        text_column=text_column,
        pair_column=pair_column,
        label_column=label_column,
        data_config=data_config,
        resume=resume,
    )
    show(str(run))
    show(f"\nWritten to {folder}.")
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
