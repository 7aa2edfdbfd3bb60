"""`attar distill`."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import Labelled, LabelledOptions
from attar.cli.output import ExitCode, Output, Recipe, command, require_folder_option, show
from attar.data.labelled.task import TaskKind
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.distill import distill as distill_model
from attar.train.students import StudentInit

_PIPELINE = Group("Pipeline and training options", sort_key=3)


@dataclass(frozen=True)
class StudentOptions:
    """A student that is made from its teacher."""

    student_layers: int | None = None
    """Instead of a student of your own: this many layers of the teacher."""
    student_width: int | None = None
    """With --student-init random: the width of its hidden states; the teacher's when not given."""
    student_init: StudentInit = "cut"
    """cut copies the teacher's weights into those layers, random does not."""


Student = Annotated[StudentOptions, Parameter(name="*", group=Group("Student", sort_key=1))]


def distill(
    model: str | None = None,
    *,
    data: Labelled = LabelledOptions(),
    teacher: str | None = None,
    student: Student = StudentOptions(),
    task: TaskKind | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[DistillConfig, Parameter(name="*", group=_PIPELINE)] = DistillConfig(),
) -> int:
    """Train an encoder for a task from a larger one, by any distillation pipeline (Distiller).

    Example: `attar distill --teacher my-teacher --student-layers 2 --data reviews.csv -o small`

    Without --teacher the labels alone teach (set --hard-weight 1): that is how a teacher is made.
    `attar pipeline search` tries many pipelines on your data.

    Parameters
    ----------
    model
        Folder or Hub name of the student: the encoder to train.
    teacher
        Folder or Hub name of an encoder that was trained on this task.
    task
        What is predicted; inferred from the labels when not given.
    output_dir
        Where the student goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = require_folder_option(output_dir)
    run = distill_model(
        model,
        data.whole(),
        teacher=teacher,
        **vars(student),
        task=task,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    show(str(run))
    show(f"\nScored on {run.details['test_rows']:,} test examples. Written to {folder}.")
    context = ["--context", config.context]
    show(f"Next: {command('evaluate', folder, *data.words(), *context)}")
    return ExitCode.DONE
