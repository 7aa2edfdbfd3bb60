"""`attar pipeline`: searches over distillation pipelines."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter

from attar.cli.data import Labelled, LabelledOptions
from attar.cli.distill import Student, StudentOptions
from attar.cli.output import (
    ExitCode,
    Json,
    Output,
    Overwrite,
    Recipe,
    command,
    note,
    noun,
    require_folder_option,
    require_target,
    show,
    show_or_write,
    show_pairs,
)
from attar.data.labelled.task import TaskKind
from attar.methods.distiller.config import DistillConfig
from attar.methods.distiller.importance import evaluate_studies, importance_lines
from attar.methods.distiller.pipelines import SEARCHED, parse_only
from attar.methods.distiller.search import SearchConfig
from attar.methods.distiller.search import search as search_pipelines
from attar.methods.distiller.study import conclusion, study_lines, study_summary, study_table
from attar.search.search import RECIPE
from attar.search.storage import STUDY_FILE

_SEARCH = Group("Search options", sort_key=3)
_TRAINING = Group("Training options, the same for all trials", sort_key=4)
_NOT_SEARCHED = rf"^(?!({'|'.join(sorted(SEARCHED))})$)"


def search(
    model: str | None = None,
    *,
    data: Labelled = LabelledOptions(),
    teacher: str | None = None,
    student: Student = StudentOptions(),
    task: TaskKind | None = None,
    only: Annotated[list[str] | None, Parameter(negative="", group=_SEARCH)] = None,
    studies: Annotated[
        list[Path] | None, Parameter(consume_multiple=True, negative="", group=_SEARCH)
    ] = None,
    output_dir: Output = None,
    resume: bool = False,
    recipe: Recipe = None,
    config: Annotated[
        SearchConfig, Parameter(name="*", group=_SEARCH, parse=re.compile(r"^(?!(only|studies)$)"))
    ] = SearchConfig(),
    training: Annotated[
        DistillConfig, Parameter(name="*", group=_TRAINING, parse=re.compile(_NOT_SEARCHED))
    ] = DistillConfig(),
) -> int:
    """Try many distillation pipelines on your data, and keep the best as a recipe.

    Example: `attar pipeline search --teacher my-teacher --student-layers 2 --data reviews.csv
    --only mixup=false -o study`

    Run the same command again to continue a search. Started several times at once, on one machine
    or with --storage on many, it divides the trials among the processes. The folder gets
    study.jsonl, a line for each trial, and best.yaml, which trains the best pipeline again.

    Parameters
    ----------
    model
        Folder or Hub name of the student: the encoder that every trial trains.
    teacher
        Folder or Hub name of an encoder that was trained on this task.
    task
        What is predicted; inferred from the labels when not given.
    only
        A choice and the values to try, such as pred_loss=mse,ce or augment=none,swap+mlm; may be
        given several times.
    studies
        Studies to recommend from, besides those that come with Attar: folders or .jsonl files.
    output_dir
        Folder of the study: a new one, or that of a study to continue.
    resume
        Not needed: the same command continues a search with or without it.
    """
    folder = require_folder_option(output_dir)
    run = search_pipelines(
        model,
        data.whole(),
        teacher=teacher,
        **vars(student),
        task=task,
        config=replace(
            config,
            only=parse_only(only or ()) or None,
            studies=tuple(str(path) for path in studies or ()),
        ),
        training=training,
        output_dir=folder,
        recipe=recipe,
        resume=resume,
    )
    if run.details["best"] is None:
        missing = run.details["missing"]
        show(f"Other workers are running the other {missing} trials; there are no results yet.")
        return ExitCode.DONE
    summary = study_summary(folder, storage=config.storage)
    show(f"{conclusion(summary)}\n")
    show(study_table(summary).text())
    show("")
    show_pairs(study_lines(summary))
    show(f"\nWritten to {folder}: {STUDY_FILE} and {RECIPE}.")
    again = {"teacher": teacher, "task": task} | (vars(student) if model is None else {})
    if student.student_init == "cut":
        again.pop("student_init", None)
    words = [] if model is None else [model]
    words += data.words()
    for name, value in again.items():
        words += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
    show(f"Next: {command('run', folder / RECIPE, *words, '-o', f'{folder}-best')}")
    return ExitCode.DONE


def evaluate(
    studies: Annotated[list[Path], Parameter(negative="")],
    /,
    *,
    seed: int = 0,
    output_dir: Output = None,
    json_to: Json = None,
    overwrite: Overwrite = False,
) -> int:
    """Show which choices of a pipeline matter: how much of the scores' variance each explains.

    Example: `attar pipeline evaluate study`

    Shares are averaged over contexts: trials of one data set, student, teacher and setting.

    Parameters
    ----------
    studies
        Folders of searches, or .jsonl files.
    seed
        Seed of the forests that estimate the shares.
    output_dir
        Write the record (attar.json) into this folder.
    json_to
        Write the record as JSON to this new file; `-` prints JSON instead of the table.
    """
    require_target(json_to, overwrite=overwrite)
    run = evaluate_studies(studies, seed=seed, output_dir=output_dir)
    show_or_write(run.to_dict(), "\n".join(importance_lines(run)), target=json_to)
    return ExitCode.DONE


def without_searched(options: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's options without those that are searched; a note names them."""
    kept = {name: v for name, v in options.items() if name.replace("-", "_") not in SEARCHED}
    if searched := [name for name in options if name not in kept]:
        note(
            f"The recipe's {', '.join(searched)} {'is' if len(searched) == 1 else 'are'} not used: "
            "the search chooses them, within --only."
        )
    return kept


def __getattr__(name: str) -> App:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return noun(
        "pipeline",
        "Search distillation pipelines on your data, and see which choices matter (Distiller).",
        {"search": search, "evaluate": evaluate},
    )
