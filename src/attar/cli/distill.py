"""`attar distill`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from attar.cli.data import Labelled, LabelledOptions
from attar.cli.output import (
    ExitCode,
    Output,
    Recipe,
    command,
    require_folder_option,
    show,
    show_pairs,
)
from attar.data.labelled.task import TaskKind
from attar.distillation.config import CompressorConfig
from attar.distillation.distill import distill as distill_model
from attar.distillation.tables import plans_table, reasons, report_lines
from attar.methods.distiller.config import DistillConfig
from attar.train.students import StudentInit

_BUDGET = Group("Student of a budget (Compressor)", sort_key=2)
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
    budget: Annotated[str | None, Parameter(group=_BUDGET)] = None,
    plan: Annotated[Path | None, Parameter(group=_BUDGET)] = None,
    rank: Annotated[int, Parameter(group=_BUDGET)] = 1,
    plan_only: Annotated[bool, Parameter(group=_BUDGET)] = False,
    task: TaskKind | None = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    compressor: Annotated[
        CompressorConfig, Parameter(name="*", group=_BUDGET)
    ] = CompressorConfig(),
    config: Annotated[DistillConfig, Parameter(name="*", group=_PIPELINE)] = DistillConfig(),
) -> int:
    """Train an encoder for a task from a larger one, by any distillation pipeline (Distiller), or
    to a budget (Compressor).

    Example: `attar distill --teacher my-teacher --budget "bytes<=3MB" --data reviews.csv -o small`

    With --budget, the shape of the student, its tokenizer and its number format are chosen to keep
    the budget, and options that are not given come from the recipe compressor/default. Labels are
    not needed then.

    Without --teacher the labels alone teach (set --hard-weight 1): that is how a teacher is made.
    `attar pipeline search` tries many pipelines on your data.

    Parameters
    ----------
    model
        Folder or Hub name of the student: the encoder to train.
    teacher
        Folder or Hub name of an encoder that was trained on this task.
    budget
        Upper bounds, such as "bytes<=3MB" or "bytes<=3MB, latency<=20ms". bytes: weights, tokenizer
        and configuration on disk; latency: one text of --context tokens on this machine's CPU;
        params and macs as everywhere. A percentage is of the teacher.
    plan
        Take a shape of this plan.json, which an earlier run wrote, in place of a search, with the
        context, number format and kind of tokenizer that it was made for.
    rank
        Which of its shapes; 1 is the best.
    plan_only
        Print and write the best shapes, and train nothing.
    task
        What is predicted; inferred from the labels, or else from the teacher, when not given.
    output_dir
        Where the student goes; must be new or empty.
    resume
        Continue an interrupted run in the same folder.
    """
    folder = output_dir if plan_only and output_dir is None else require_folder_option(output_dir)
    run = distill_model(
        model,
        data.whole(),
        teacher=teacher,
        **vars(student),
        budget=budget,
        plan=plan,
        rank=rank,
        plan_only=plan_only,
        task=task,
        compressor=compressor,
        config=config,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    if "plans" in run.details:
        show(f"{plans_table(run).text()}\n")
    if plan_only:
        for reason in reasons(run):
            show(reason)
        return ExitCode.DONE
    show(str(run))
    if "report" in run.details:
        show_pairs([("", ""), *report_lines(run)])
    show(f"\nScored on {run.details['test_rows']:,} test examples. Written to {folder}.")
    if run.quality:  # without labels there is nothing to score
        context = [
            "--context",
            run.settings.get("context", config.context),
        ]  # with a plan, the plan's
        show(f"Next: {command('evaluate', folder, *data.words(), *context)}")
    if run.budget is not None and not run.budget["met"]:
        show(f"The budget {run.budget['asked']} is not met, as measured on this machine.")
        return ExitCode.BUDGET_NOT_MET
    return ExitCode.DONE
